/// Small filesystem workloads, one phase at a time, so that several filesystems can take turns:
///
///     workload PHASE DIRECTORY [FILES [MEBIBYTES [SECONDS]]]
///
/// Prints lines of "name value unit"; a rate is work divided by wall time. Phases build on what earlier ones left in
/// DIRECTORY; test/bench/compare knows their order and which of them want a fresh mount. Single-threaded but for
/// append_writers.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

constexpr std::size_t kSmallBytes = 4096;
constexpr std::size_t kLargeBytes = 1 << 20;
constexpr int kTreeDirectories = 120;
constexpr int kFilesPerTreeDirectory = 20;

std::string directory;
int files = 2000;
int mebibytes = 192;
double seconds = 1.0;
std::vector<char> pattern;

[[noreturn]] void fail(const std::string& what) {
  fmt::print(stderr, "workload: {}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

void expect(bool good, const std::string& what) {
  if (!good) fail(what);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void report(const std::string& name, double value, const char* unit) {
  fmt::print("{} {:.6g} {}\n", name, value, unit);
}

/// Repeatable numbers: every filesystem gets the same work.
std::uint64_t next_random() {
  static std::uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

std::string place(const char* folder, const char* prefix = "", int number = -1) {
  std::string path = directory + "/" + folder;
  if (number >= 0) path += fmt::format("/{}{:06}", prefix, number);
  return path;
}

class File {
 public:
  File(const std::string& path, int flags) : descriptor_(open(path.c_str(), flags, 0644)) {
    expect(descriptor_ >= 0, path);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { close(descriptor_); }
  int get() const { return descriptor_; }
  void append(std::size_t bytes) const {
    expect(write(descriptor_, pattern.data(), bytes) == static_cast<ssize_t>(bytes), "write");
  }

 private:
  int descriptor_;
};

// Names

void each(const char* folder, const char* prefix, int count, const std::function<void(const std::string&)>& act) {
  for (int i = 0; i < count; ++i)
    act(place(folder, prefix, i));
}

void timed_each(const char* name, const char* folder, const char* prefix, int count,
                const std::function<void(const std::string&)>& act) {
  double start = now();
  each(folder, prefix, count, act);
  report(name, count / (now() - start), "ops/s");
}

void make_empty(const std::string& path) {
  File file(path, O_CREAT | O_EXCL | O_WRONLY);
}
void make_small(const std::string& path) {
  File(path, O_CREAT | O_EXCL | O_WRONLY).append(kSmallBytes);
}
void look_at(const std::string& path) {
  struct stat status{};
  expect(stat(path.c_str(), &status) == 0, path);
}
void read_small(const std::string& path) {
  File file(path, O_RDONLY);
  char bytes[kSmallBytes];
  expect(read(file.get(), bytes, sizeof(bytes)) == static_cast<ssize_t>(kSmallBytes), path);
}
void remove_file(const std::string& path) {
  expect(unlink(path.c_str()) == 0, path);
}

int list(const char* folder, bool attributes) {
  DIR* stream = opendir(place(folder).c_str());
  expect(stream != nullptr, place(folder));
  int count = 0;
  while (const dirent* entry = readdir(stream)) {
    if (entry->d_name[0] == '.') continue;
    struct stat status{};
    if (attributes) expect(fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0, entry->d_name);
    ++count;
  }
  closedir(stream);
  return count;
}

void timed_list(const char* name, bool attributes) {
  double start = now();
  int count = list("names", attributes);
  expect(count == files, name);
  report(name, count / (now() - start), "entries/s");
}

void create() {
  expect(mkdir(place("names").c_str(), 0755) == 0 || errno == EEXIST, place("names"));
  timed_each("create", "names", "f", files, make_empty);
}
void stat_cold() {
  timed_each("stat_cold", "names", "f", files, look_at);
}
void stat_warm() {
  each("names", "f", files, look_at);
  timed_each("stat_warm", "names", "f", files, look_at);
}
void readdir_cold() {
  timed_list("readdir_cold", false);
}
void ls_l_cold() {
  timed_list("ls_l_cold", true);
}
void rename_all() {
  list("names", true);
  timed_each("rename", "names", "f", files, [](const std::string& path) {
    std::string target = path;
    target[target.rfind('/') + 1] = 'g';
    expect(rename(path.c_str(), target.c_str()) == 0, path);
  });
}
void unlink_all() {
  list("names", true);
  timed_each("unlink", "names", "g", files, remove_file);
}
void create_4k() {
  timed_each("create_4k", "names", "h", files, make_small);
}
void open_read_cold() {
  timed_each("open_read_4k_cold", "names", "h", files, read_small);
}
void open_read_warm() {
  each("names", "h", files, read_small);
  timed_each("open_read_4k_warm", "names", "h", files, read_small);
}
void unlink_4k() {
  list("names", true);
  timed_each("unlink_4k", "names", "h", files, remove_file);
}
void make_directories() {
  timed_each("mkdir", "names", "d", files / 2,
             [](const std::string& path) { expect(mkdir(path.c_str(), 0755) == 0, path); });
}
void remove_directories() {
  list("names", true);
  timed_each("rmdir", "names", "d", files / 2, [](const std::string& path) { expect(rmdir(path.c_str()) == 0, path); });
}

// A tree like that of a program's sources

int visited = 0;

void untar() {
  expect(mkdir(place("tree").c_str(), 0755) == 0, place("tree"));
  double start = now();
  for (int i = 0; i < kTreeDirectories; ++i) {
    std::string folder = fmt::format("{}/d{}", place("tree"), i / 10);
    if (i % 10 != 0) folder += fmt::format("/s{}", i % 10);
    expect(mkdir(folder.c_str(), 0755) == 0, folder);
    for (int j = 0; j < kFilesPerTreeDirectory; ++j) {
      File file(fmt::format("{}/file{:02}.h", folder, j), O_CREAT | O_EXCL | O_WRONLY);
      // 256 bytes to 64 KiB, evenly spread over the magnitudes, in the pieces of an archiver.
      std::size_t least = std::size_t{256} << next_random() % 8;
      std::size_t left = least + next_random() % least;
      for (; left > 0; left -= std::min<std::size_t>(left, 10240))
        file.append(std::min<std::size_t>(left, 10240));
      timespec times[2] = {{1600000000 + i, 0}, {1600000000 + j, 0}};
      expect(futimens(file.get(), times) == 0 && fchmod(file.get(), 0644) == 0, folder);
    }
  }
  report("untar", kTreeDirectories * kFilesPerTreeDirectory / (now() - start), "files/s");
}

int visit(const char*, const struct stat*, int, FTW*) {
  ++visited;
  return 0;
}
int visit_contents(const char* path, const struct stat*, int type, FTW*) {
  ++visited;
  if (type != FTW_F) return 0;
  File file(path, O_RDONLY);
  static std::vector<char> bytes(128 << 10);
  while (read(file.get(), bytes.data(), bytes.size()) > 0) {
  }
  return 0;
}
int visit_and_remove(const char* path, const struct stat*, int, FTW*) {
  ++visited;
  return remove(path);
}

void timed_walk(const char* name, int (*act)(const char*, const struct stat*, int, FTW*), int flags) {
  visited = 0;
  double start = now();
  expect(nftw(place("tree").c_str(), act, 64, FTW_PHYS | flags) == 0, name);
  report(name, visited / (now() - start), "entries/s");
}

void find_cold() {
  timed_walk("find_cold", visit, 0);
}
void grep_cold() {
  timed_walk("grep_cold", visit_contents, 0);
}
void remove_tree() {
  expect(nftw(place("tree").c_str(), visit_contents, 64, FTW_PHYS) == 0, "tree");
  timed_walk("rm_r", visit_and_remove, FTW_DEPTH);
}

// Data

std::string big() {
  return place("big");
}

void write_big(const char* name, int flags) {
  File file(big(), flags);
  double start = now();
  for (int i = 0; i < mebibytes; ++i)
    file.append(kLargeBytes);
  expect(fsync(file.get()) == 0, "fsync");
  report(name, mebibytes / (now() - start), "MiB/s");
}
double read_big() {
  File file(big(), O_RDONLY);
  std::vector<char> bytes(kLargeBytes);
  double start = now();
  std::size_t total = 0;
  for (ssize_t got = 0; (got = read(file.get(), bytes.data(), bytes.size())) > 0;)
    total += static_cast<std::size_t>(got);
  expect(total == static_cast<std::size_t>(mebibytes) * kLargeBytes, "read");
  return mebibytes / (now() - start);
}

void seq_write() {
  write_big("seq_write_fsync", O_CREAT | O_EXCL | O_WRONLY);
}
void seq_overwrite() {
  write_big("seq_overwrite_fsync", O_WRONLY);
}
void seq_read_cold() {
  report("seq_read_cold", read_big(), "MiB/s");
}
void read_warm() {
  read_big();
  report("seq_read_warm", read_big(), "MiB/s");
  File file(big(), O_RDONLY);
  std::uint64_t blocks = static_cast<std::uint64_t>(mebibytes) * kLargeBytes / kSmallBytes;
  char bytes[kSmallBytes];
  double start = now();
  long count = 0;
  for (; now() < start + seconds / 2; ++count)
    expect(pread(file.get(), bytes, sizeof(bytes), static_cast<off_t>(next_random() % blocks * kSmallBytes)) > 0,
           "pread");
  report("rand_read_4k_warm", static_cast<double>(count) / (now() - start), "ops/s");
}
void mmap_warm() {
  read_big();
  File file(big(), O_RDONLY);
  std::size_t size = static_cast<std::size_t>(mebibytes) * kLargeBytes;
  double start = now();
  auto* bytes = static_cast<const char*>(mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0));
  expect(bytes != MAP_FAILED, "mmap");
  unsigned sum = 0;
  for (std::size_t at = 0; at < size; at += kSmallBytes)
    sum += static_cast<unsigned char>(bytes[at]);
  double took = now() - start;
  munmap(const_cast<char*>(bytes), size);
  report("mmap_warm", static_cast<double>(size) / kSmallBytes / took, "pages/s");
  expect(sum != 0, "mmap");
}
void remove_big() {
  expect(unlink(big().c_str()) == 0, big());
}

void write_small_buffered() {
  File file(place("small"), O_CREAT | O_TRUNC | O_WRONLY);
  double start = now();
  long count = 0;
  for (; count < 8192 && now() < start + 4 * seconds; ++count)
    file.append(kSmallBytes);
  report("seq_write_4k", static_cast<double>(count) / (now() - start), "ops/s");
}
void append_fsync() {
  std::string path = place("log");
  File file(path, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND);
  double start = now();
  long count = 0;
  for (; now() < start + seconds; ++count) {
    file.append(kSmallBytes);
    expect(fsync(file.get()) == 0, "fsync");
  }
  report("append_4k_fsync", static_cast<double>(count) / (now() - start), "ops/s");
}
/// Eight writers with a file each.
void append_writers() {
  constexpr int kWriters = 8;
  std::atomic<long> count = 0;
  double start = now();
  std::vector<std::thread> writers;
  writers.reserve(kWriters);
  for (int i = 0; i < kWriters; ++i) {
    writers.emplace_back([&count, start, i] {
      File file(place("log") + fmt::format("{}", i), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND);
      while (now() < start + seconds) {
        file.append(kSmallBytes);
        expect(fsync(file.get()) == 0, "fsync");
        ++count;
      }
    });
  }
  for (std::thread& writer : writers)
    writer.join();
  report("append_4k_fsync_8_writers", static_cast<double>(count.load()) / (now() - start), "ops/s");
}

// Scale

/// Makes, then removes, FILES names in one directory; the first and the last tenth of each are timed.
void one_large_directory() {
  std::string folder = place("large");
  expect(mkdir(folder.c_str(), 0755) == 0, folder);
  const int tenth = std::max(1, files / 10);
  auto pass = [&](const char* name, const std::function<void(const std::string&)>& act) {
    double start = now();
    double first = 0;
    double last = 0;
    for (int i = 0; i < files; ++i) {
      if (i == files - tenth) last = now();
      act(place("large", "entry", i));
      if (i + 1 == tenth) first = now();
    }
    double end = now();
    report(fmt::format("{}_first_tenth", name), tenth / (first - start), "ops/s");
    report(fmt::format("{}_last_tenth", name), tenth / (end - last), "ops/s");
    report(fmt::format("{}_all", name), files / (end - start), "ops/s");
  };
  pass("large_create", make_empty);
  pass("large_unlink", remove_file);
  expect(rmdir(folder.c_str()) == 0, folder);
}
/// FILES inodes in directories of a thousand, to be walked.
void many_inodes() {
  std::string folder = place("many");
  expect(mkdir(folder.c_str(), 0755) == 0, folder);
  double start = now();
  for (int i = 0; i < files; ++i) {
    std::string inner = fmt::format("{}/d{:04}", folder, i / 1000);
    if (i % 1000 == 0) expect(mkdir(inner.c_str(), 0755) == 0, inner);
    make_empty(fmt::format("{}/f{:03}", inner, i % 1000));
  }
  report("many_create", files / (now() - start), "ops/s");
}
void walk_many() {
  visited = 0;
  double start = now();
  expect(nftw(place("many").c_str(), visit, 64, FTW_PHYS) == 0, "walk");
  report("many_walk", visited / (now() - start), "entries/s");
}

const std::map<std::string, void (*)()>& phases() {
  static const std::map<std::string, void (*)()> all{
      {"create", create},
      {"stat_cold", stat_cold},
      {"stat_warm", stat_warm},
      {"readdir_cold", readdir_cold},
      {"ls_l_cold", ls_l_cold},
      {"rename", rename_all},
      {"unlink", unlink_all},
      {"create_4k", create_4k},
      {"open_read_cold", open_read_cold},
      {"open_read_warm", open_read_warm},
      {"unlink_4k", unlink_4k},
      {"mkdir", make_directories},
      {"rmdir", remove_directories},
      {"untar", untar},
      {"find_cold", find_cold},
      {"grep_cold", grep_cold},
      {"rm_r", remove_tree},
      {"seq_write", seq_write},
      {"seq_overwrite", seq_overwrite},
      {"seq_read_cold", seq_read_cold},
      {"read_warm", read_warm},
      {"mmap_warm", mmap_warm},
      {"remove_big", remove_big},
      {"write_small", write_small_buffered},
      {"append_fsync", append_fsync},
      {"append_writers", append_writers},
      {"one_large_directory", one_large_directory},
      {"many_inodes", many_inodes},
      {"walk_many", walk_many},
  };
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  auto phase = argc >= 3 ? phases().find(argv[1]) : phases().end();
  if (phase == phases().end()) {
    fmt::print(stderr, "usage: workload PHASE DIRECTORY [FILES [MEBIBYTES [SECONDS]]]\nphases:");
    for (const auto& [name, run] : phases())
      fmt::print(stderr, " {}", name);
    fmt::print(stderr, "\n");
    return 2;
  }
  directory = argv[2];
  if (argc > 3) files = std::max(2, std::atoi(argv[3]));
  if (argc > 4) mebibytes = std::max(1, std::atoi(argv[4]));
  if (argc > 5) seconds = std::max(0.1, std::atof(argv[5]));
  pattern.resize(kLargeBytes);
  for (char& byte : pattern)
    byte = static_cast<char>(next_random());
  phase->second();
  return 0;
}
