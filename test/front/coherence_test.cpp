// Two real mounts of one volume on two nodes: what is done through one is seen through the other by the next system
// call, whatever the kernel keeps; and processes on both, all at once, lose nothing and never wait for ever.
#include <array>
#include <atomic>
#include <deque>
#include <map>

#include <fmt/ranges.h>

#include "test/front/mount_pair.h"
#include "test/front/users.h"
#include "test/support/catch.h"
#include "test/support/environment.h"

using namespace corral;
using namespace corral::test;

#define NEED_MOUNTS()                                          \
  if (const std::string why = why_no_mounts(); !why.empty()) { \
    WARN("SKIPPED: " << why);                                  \
    return;                                                    \
  }

namespace {

using Mounts = std::vector<std::string>;

/// One process that works on both mounts by turns, and knows what must be there.
class Alternating {
 public:
  Alternating(const Mounts& mounts, std::uint64_t seed) : mounts_(mounts), random_(seed) {}

  void play(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      const std::string name = fmt::format("f{}", random_.below(6));
      const std::string place = path(name);
      act(place, name);
      done_.push_back(fmt::format("{} {}: {} bytes", did_, place, files_.contains(name) ? files_[name].size() : 0));
      if (done_.size() > 8) done_.pop_front();
      for (std::size_t mount = 0; mount < mounts_.size(); ++mount)
        check(mount, name, round);
      if (round % 8 == 0) check_names(round);
    }
  }

 private:
  std::string path(const std::string& name) { return mounts_[random_.below(mounts_.size())] + "/" + name; }

  void act(const std::string& place, const std::string& name) {
    auto file = files_.find(name);
    if (file == files_.end()) {
      did_ = "create";
      open_file(place, O_WRONLY | O_CREAT | O_EXCL);
      files_[name] = "";
      return;
    }
    std::string& text = file->second;
    did_ = "write";
    const std::string more(random_.between(1, 20'000), static_cast<char>('a' + random_.below(26)));
    switch (random_.below(8)) {
      case 0:
        did_ = "unlink";
        must_call(::unlink(place.c_str()), "unlink " + place);
        files_.erase(file);
        for (auto& open : open_)
          open.erase(name);
        return;
      case 1:
        did_ = "rename";
        return rename(place, name);
      case 2: {
        did_ = "truncate";
        const std::uint64_t size = random_.below(text.size() + 5000);
        must_call(::truncate(place.c_str(), static_cast<off_t>(size)), "truncate " + place);
        text.resize(size);
        return;
      }
      case 3:
        did_ = "append";
        must_call(::write(open_file(place, O_WRONLY | O_APPEND).get(), more.data(), more.size()), "append " + place);
        text += more;
        return;
      case 4:
        did_ = "store";
        if (!text.empty()) store(place, text);
        return;
      default: {
        const std::uint64_t offset = random_.below(text.size() + 1);
        write_at(open_file(place, O_RDWR).get(), offset, more, place);
        text.resize(std::max<std::size_t>(text.size(), offset + more.size()));
        text.replace(offset, more.size(), more);
      }
    }
  }

  void rename(const std::string& place, const std::string& name) {
    const std::string to = fmt::format("f{}", random_.below(6));
    if (to == name) return;
    const std::string new_place = place.substr(0, place.rfind('/') + 1) + to;
    must_call(::rename(place.c_str(), new_place.c_str()), "rename " + place);
    files_[to] = files_[name];
    files_.erase(name);
    for (auto& open : open_) {
      open.erase(to);
      if (auto moved = open.extract(name)) {
        moved.key() = to;
        open.insert(std::move(moved));
      }
    }
  }

  /// Through shared memory, whose page the kernel writes when it likes.
  void store(const std::string& place, std::string& text) {
    const FileDescriptor file = open_file(place, O_RDWR);
    void* memory = ::mmap(nullptr, text.size(), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    expect(memory != MAP_FAILED, "mmap " + place);
    const std::size_t at = random_.below(text.size());
    static_cast<char*>(memory)[at] = text[at] = '!';
    // The mapping stays for a while: its page must be taken from it.
    if (kept_ != nullptr) ::munmap(kept_, kept_bytes_);
    kept_ = memory;
    kept_bytes_ = text.size();
  }

  void check(std::size_t mount, const std::string& name, int round) {
    const std::string place = mounts_[mount] + "/" + name;
    const auto file = files_.find(name);
    const std::string where = fmt::format("{}\nround {}, {}: ", fmt::join(done_, "\n"), round, place);
    expect(exists(place) == (file != files_.end()), where + "there or not there");
    if (file == files_.end()) return;
    const auto size = static_cast<std::uint64_t>(attributes(place).st_size);
    if (size != file->second.size())
      expect(false, where + fmt::format("size {} instead of {}, and {} when asked for", size, file->second.size(),
                                        size_asked_for(place)));
    auto& open = open_[mount];
    if (!open.contains(name)) open.emplace(name, open_file(place, O_RDONLY));
    expect(contents(open.at(name).get(), place) == file->second, where + "contents through a file open for long");
    expect(contents(place) == file->second, where + "contents");
  }

  void check_names(int round) const {
    std::set<std::string> expected;
    for (const auto& [name, text] : files_)
      expected.insert(name);
    for (const std::string& mount : mounts_)
      expect(names(mount) == expected, fmt::format("round {}, {}: names", round, mount));
  }

  Mounts mounts_;
  Random random_;
  std::string did_;
  std::deque<std::string> done_;  ///< the last few operations
  std::map<std::string, std::string> files_;
  std::map<std::string, FileDescriptor> open_[MountPair::kNodes];
  void* kept_ = nullptr;
  std::size_t kept_bytes_ = 0;
};

}  // namespace

TEST_CASE("what is done on one mount is seen on the other by the next system call", "[front]") {
  NEED_MOUNTS();
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountPair pair({{[seed](const Mounts& mounts) { Alternating(mounts, seed).play(600); }}}, seed);
  CHECK(pair.run() == "");
}

namespace {

constexpr int kUsersPerMount = 2;

/// Every process adds to its own number, and all the numbers share a page.
void count_in_shared_memory(const std::string& mount, int user) {
  constexpr std::uint64_t kCount = 300;
  const FileDescriptor file = open_file(mount + "/numbers", O_RDWR | O_CREAT);
  const std::string zeros(4096, '\0');
  must_call(::ftruncate(file.get(), 4096), "ftruncate");
  const Mapping numbers(mount + "/numbers", 4096);
  const auto mine = static_cast<std::size_t>(user);
  for (std::uint64_t i = 0; i < kCount; ++i) {
    expect(numbers[mine] == i, fmt::format("user {}: number {} instead of {}", user, numbers[mine], i));
    numbers[mine] = i + 1;
    ::usleep(300);
  }
}

void append_records(const std::string& mount, int user) {
  const FileDescriptor log = open_file(mount + "/log", O_WRONLY | O_CREAT | O_APPEND);
  for (int i = 0; i < 150; ++i) {
    const std::string record = fmt::format("{}:{:04}\n", user, i);
    must_call(::write(log.get(), record.data(), record.size()), "append");
    if (i % 10 == 0) expect(contents(mount + "/log").find(record) != std::string::npos, "own record not to be seen");
  }
}

void check_records(const std::string& mount, int users) {
  const std::string all = contents(mount + "/log");
  expect(all.size() == static_cast<std::size_t>(users) * 150 * 7, fmt::format("log of {} bytes", all.size()));
  std::vector<int> next(static_cast<std::size_t>(users), 0);
  for (std::size_t at = 0; at < all.size(); at += 7) {
    const auto user = static_cast<std::size_t>(all[at] - '0');
    expect(user < next.size() && all.substr(at, 7) == fmt::format("{}:{:04}\n", user, next[user]++),
           fmt::format("log at {}", at));
  }
}

/// Names and contents at random in a directory that all share.
void mix(const std::string& mount, std::uint64_t seed, int count) {
  Random random(seed);
  const std::set<int> allowed{0, EEXIST, ENOENT, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, ESTALE};
  auto tolerate = [&allowed](long result, const std::string& what) {
    if (result < 0 && !allowed.contains(errno)) throw std::runtime_error(what + ": " + std::strerror(errno) + "\n");
    return result >= 0;
  };
  for (int i = 0; i < count; ++i) {
    const std::string place = fmt::format("{}/mix/f{}", mount, random.below(10));
    switch (random.below(9)) {
      case 0:
        tolerate(::mkdir(place.c_str(), 0755), "mkdir");
        break;
      case 1:
        tolerate(::rmdir(place.c_str()), "rmdir");
        break;
      case 2:
        tolerate(::unlink(place.c_str()), "unlink");
        break;
      case 3: {
        const std::string to = fmt::format("{}/mix/f{}", mount, random.below(10));
        tolerate(::rename(place.c_str(), to.c_str()), "rename");
        break;
      }
      case 4:
        names(mount + "/mix");
        break;
      case 5: {
        struct stat found{};
        tolerate(::stat(place.c_str(), &found), "stat");
        break;
      }
      default: {
        const FileDescriptor file(::open(place.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
        if (!tolerate(file.get(), "open")) break;
        const std::string text(random.between(1, 4) * 4096, static_cast<char>('a' + random.below(26)));
        if (random.chance(1, 2)) write_at(file.get(), 0, text, place);
        if (random.chance(1, 4)) must_call(::ftruncate(file.get(), static_cast<off_t>(random.below(16'384))), "cut");
        const std::string got = contents(file.get(), place);
        for (std::size_t page = 0; page < got.size(); page += 4096) {
          // Cutting leaves zeros behind where the file grows again.
          const std::string one = got.substr(page, 4096);
          const std::size_t letters = one.find('\0');
          expect(one.substr(0, letters).find_first_not_of(one[0]) == std::string::npos,
                 place + ": a page of two writes");
        }
      }
    }
  }
}

void hammer(const Mounts& mounts, int user, std::uint64_t seed) {
  const std::string& mount = mounts[static_cast<std::size_t>(user) % mounts.size()];
  if (::mkdir((mount + "/mix").c_str(), 0755) != 0) expect(errno == EEXIST, "mkdir mix");
  count_in_shared_memory(mount, user);
  append_records(mount, user);
  mix(mount, seed, 400);
}

}  // namespace

TEST_CASE("processes on two mounts lose nothing and never wait for ever", "[front]") {
  NEED_MOUNTS();
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  std::vector<MountUser> users;
  constexpr int kUsers = kUsersPerMount * static_cast<int>(MountPair::kNodes);
  for (int user = 0; user < kUsers; ++user)
    users.emplace_back(
        [user, seed](const Mounts& mounts) { hammer(mounts, user, seed + static_cast<std::uint64_t>(user)); });
  const MountUser last = [](const Mounts& mounts) {
    for (const std::string& mount : mounts)
      check_records(mount, kUsers);
    expect(names(mounts[0] + "/mix") == names(mounts[1] + "/mix"), "the mounts show different names");
  };
  MountPair pair({users, {last}}, seed);
  CHECK(pair.run() == "");
}

namespace {

constexpr int kAppenders = 4;
constexpr std::size_t kRecordBytes = 64;

/// How many records each appender's calls have returned for; memory that all processes share.
struct Appended {
  std::array<std::atomic<std::uint32_t>, kAppenders> records;
  std::atomic<int> ended;
};

std::string record_of(int user, std::uint32_t number) {
  std::string record = fmt::format("{}:{:06}:", user, number);
  record.resize(kRecordBytes - 1, '.');
  return record + '\n';
}

void append_to_log(const std::string& path, int user, Appended& appended) {
  const FileDescriptor log = open_file(path, O_WRONLY | O_CREAT | O_APPEND);
  for (std::uint32_t i = 0; i < 400; ++i) {
    const std::string record = record_of(user, i);
    must_call(::write(log.get(), record.data(), record.size()), "append");
    appended.records[static_cast<std::size_t>(user)] = i + 1;
  }
  ++appended.ended;
}

/// Each appender's records, in order and nothing else.
std::array<std::uint32_t, kAppenders> count_records(const std::string& text, const std::string& how) {
  std::array<std::uint32_t, kAppenders> counts{};
  expect(text.size() % kRecordBytes == 0, fmt::format("{}: a log of {} bytes", how, text.size()));
  for (std::size_t at = 0; at < text.size(); at += kRecordBytes) {
    const auto user = static_cast<std::size_t>(text[at] - '0');
    expect(user < counts.size() && text.substr(at, kRecordBytes) == record_of(static_cast<int>(user), counts[user]++),
           fmt::format("{}: what stands at {} of {} bytes was never written", how, at, text.size()));
  }
  return counts;
}

/// Reads the log again and again, opened anew and by a file that stays open.
void follow_log(const std::string& path, const Appended& appended) {
  const FileDescriptor kept = open_file(path, O_RDONLY | O_CREAT);
  while (appended.ended != kAppenders) {
    std::array<std::uint32_t, kAppenders> before{};
    for (std::size_t user = 0; user < before.size(); ++user)
      before[user] = appended.records[user];
    const std::array<std::uint32_t, kAppenders> seen = count_records(contents(path), "opened anew");
    for (std::size_t user = 0; user < before.size(); ++user) {
      expect(seen[user] >= before[user],
             fmt::format("{} records of user {} are seen where {} had been appended", seen[user], user, before[user]));
    }
    count_records(contents(kept.get(), path), "kept open");
  }
}

}  // namespace

TEST_CASE("a log that both mounts append to shows all that was appended, and no byte that was not", "[front]") {
  NEED_MOUNTS();
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  void* memory = ::mmap(nullptr, sizeof(Appended), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  Appended& appended = *new (memory) Appended{};
  std::vector<MountUser> users;
  for (int user = 0; user < kAppenders; ++user) {
    users.emplace_back([user, &appended](const Mounts& mounts) {
      append_to_log(mounts[static_cast<std::size_t>(user) % mounts.size()] + "/log", user, appended);
    });
  }
  for (std::size_t node = 0; node < MountPair::kNodes; ++node)
    users.emplace_back([node, &appended](const Mounts& mounts) { follow_log(mounts[node] + "/log", appended); });
  {
    MountPair pair({users}, seed);
    CHECK(pair.run() == "");
  }
  ::munmap(memory, sizeof(Appended));
}
