// Several nodes on one volume: what one has written the others read at once, nothing is lost, nobody waits for ever,
// and the volume is sound in the end.
#include <algorithm>
#include <set>

#include "test/support/environment.h"
#include "test/support/mounted_cluster.h"

using namespace corral;
using namespace corral::test;

namespace {

Task<int> reclaimed(Filesystem& filesystem) {
  co_await filesystem.reclaim_finished();
  co_return 0;
}

}  // namespace

TEST_CASE("what one node wrote another reads at once", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  const BlockNo root = cluster.root();
  const BlockNo file = cluster.must(create(cluster[0], root, "file", regular()));
  for (std::uint32_t node = 1; node < 3; ++node)
    CHECK(cluster.must(find(cluster[node], root, "file")) == file);
  std::string expected;
  for (std::uint32_t round = 0; round < 30; ++round) {
    const std::uint32_t writer = static_cast<std::uint32_t>(cluster.random.below(3));
    const std::string text(cluster.random.between(1, 30'000), static_cast<char>('a' + round % 26));
    const std::size_t offset = cluster.random.below(expected.size() + 1);
    CHECK(cluster.must(write(cluster[writer], file, offset, text)) == text.size());
    expected.resize(std::max(expected.size(), offset + text.size()));
    expected.replace(offset, text.size(), text);
    if (cluster.random.chance(1, 5)) {
      AttributeChange change;
      change.size_bytes = cluster.random.below(expected.size() + 1);
      change.mode = 0600 + round;
      cluster.must(cluster[writer].set_attributes(file, change, kRoot));
      expected.resize(*change.size_bytes);
    }
    const std::string value = fmt::format("value {}", round);
    const auto raw = bytes_of(value);
    cluster.must(
        cluster[writer].set_xattr(file, "user.round", {raw.begin(), raw.end()}, SetMode::create_or_replace, false));
    const std::uint32_t reader = static_cast<std::uint32_t>(cluster.random.below(3));
    CHECK((cluster.must(read_all(cluster[reader], file)) == expected));
    const auto read_value = cluster.must(cluster[reader].get_xattr(file, "user.round"));
    CHECK(std::ranges::equal(read_value, raw));
    CHECK(cluster.must(cluster[reader].get_attributes(file)).mode ==
          cluster.must(cluster[writer].get_attributes(file)).mode);
  }
  cluster.must(cluster[1].rename(root, "file", root, "renamed", RenameMode::replace));
  CHECK(cluster.must(find(cluster[2], root, "renamed")) == file);
  CHECK(cluster.run(find(cluster[0], root, "file")).error().code() == ENOENT);
  cluster.must(cluster[2].unlink(root, "renamed"));
  CHECK(cluster.run(find(cluster[0], root, "renamed")).error().code() == ENOENT);
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("an inode in the place of one that was freed on the same node is seen by the others", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(2, seed);
  const BlockNo root = cluster.root();
  std::set<BlockNo> places;
  bool reused = false;
  for (int round = 0; round < 20 && !reused; ++round) {
    const BlockNo file = cluster.must(create(cluster[0], root, "file", regular()));
    reused = !places.insert(file).second;
    // The maker still has it in memory.
    CHECK(cluster.must(find(cluster[1], root, "file")) == file);
    cluster[1].forget(file, 1);
    cluster.must(cluster[0].unlink(root, "file"));
    cluster[0].forget(file, 1);
    cluster.run(reclaimed(*cluster.nodes[0]->filesystem));
  }
  CHECK(reused);
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("appends of all nodes to one file lose no record", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(4, seed);
  const BlockNo root = cluster.root();
  cluster.must(create(cluster[0], root, "log", regular()));
  constexpr int kRecords = 60;
  auto append = [](Operations& operations, BlockNo top, std::uint32_t node) -> Task<void> {
    auto file = co_await find(operations, top, "log");
    for (int i = 0; i < kRecords && file; ++i)
      static_cast<void>(co_await write(operations, *file, 0, fmt::format("{}:{:04}\n", node, i), O_APPEND));
  };
  std::vector<Task<void>> tasks;
  for (std::uint32_t node = 0; node < 4; ++node)
    tasks.push_back(append(cluster[node], root, node));
  cluster.together(std::move(tasks));
  const std::string all = cluster.must(read_all(cluster[3], cluster.must(find(cluster[3], root, "log"))));
  REQUIRE(all.size() == 4 * kRecords * 7);
  std::vector<int> next(4, 0);
  for (std::size_t at = 0; at < all.size(); at += 7) {
    const auto node = static_cast<std::size_t>(all[at] - '0');
    REQUIRE(node < 4);
    CHECK(all.substr(at, 7) == fmt::format("{}:{:04}\n", node, next[node]++));
  }
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("of creators of one name exactly one wins", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  const BlockNo root = cluster.root();
  std::vector<int> wins(40, 0);
  auto race = [](Operations& operations, BlockNo top, std::vector<int>& won) -> Task<void> {
    for (std::size_t i = 0; i < won.size(); ++i) {
      auto made = co_await create(operations, top, fmt::format("name{}", i), i % 4 == 0 ? directory() : regular());
      if (made) ++won[i];
      if (!made && made.error().code() != EEXIST) won[i] += 100;
    }
  };
  std::vector<Task<void>> tasks;
  for (std::uint32_t node = 0; node < 3; ++node)
    tasks.push_back(race(cluster[node], root, wins));
  cluster.together(std::move(tasks));
  CHECK(std::ranges::all_of(wins, [](int count) { return count == 1; }));
  cluster.unmount_all();
  cluster.check_volume();
}

TEST_CASE("an unlinked file lives until the last node closes it, then its space is free", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  const BlockNo root = cluster.root();
  const std::uint32_t closes_last = static_cast<std::uint32_t>(cluster.random.below(3));
  const BlockNo file = cluster.must(create(cluster[0], root, "file", regular()));
  const std::string contents(100'000, 'x');
  cluster.must(write(cluster[0], file, 0, contents));
  for (std::uint32_t node = 0; node < 3; ++node) {
    if (node != 0) cluster.must(find(cluster[node], root, "file"));
    cluster.must(cluster[node].open(file, O_RDONLY));
  }
  cluster.must(cluster[1].unlink(root, "file"));
  for (std::uint32_t node = 0; node < 3; ++node) {
    if (node == closes_last) continue;
    cluster[node].release(file, O_RDONLY);
    cluster[node].forget(file, 1);
  }
  auto wait = [](Executor& executor) -> Task<int> {
    co_await executor.sleep_for(5s);
    co_return 0;
  };
  cluster.run(wait(cluster.executor));
  CHECK((cluster.must(read_all(cluster[closes_last], file)) == contents));
  cluster[closes_last].release(file, O_RDONLY);
  cluster[closes_last].forget(file, 1);
  cluster.run(wait(cluster.executor));
  auto state = cluster.must(cluster.nodes[0]->filesystem->allocator().state_of(file));
  CHECK(state == ondisk::BlockState::free);
  cluster.unmount_all();
  cluster.check_volume();
}

namespace {

/// What every node does in a directory that all share: files of whole versions, checked by whoever comes by.
Task<void> mix(MountedCluster& cluster, std::uint32_t node, BlockNo top, std::uint64_t seed, int count,
               std::vector<std::string>& wrong) {
  Random random(seed);
  Operations& operations = cluster[node];
  for (int i = 0; i < count; ++i) {
    const std::string name = fmt::format("f{}", random.below(12));
    const std::uint64_t choice = random.below(10);
    Result<> result;
    if (choice < 3) {
      auto made = co_await create(operations, top, name, choice == 0 ? directory() : regular());
      if (!made) result = std::unexpected(made.error());
      if (made) operations.forget(*made, 1);
    } else if (choice < 5) {
      result =
          random.chance(1, 3) ? co_await operations.remove_directory(top, name) : co_await operations.unlink(top, name);
    } else if (choice < 7) {
      result = co_await operations.rename(top, name, top, fmt::format("f{}", random.below(12)), RenameMode::replace);
    } else {
      auto file = co_await operations.lookup(top, name);
      if (!file) {
        result = std::unexpected(file.error());
      } else {
        const BlockNo inode = file->attributes.inode;
        if (S_ISREG(file->attributes.mode)) {
          // One write fills the file with one letter: no reader may see two.
          const std::string text(20'000, static_cast<char>('a' + random.below(26)));
          if (choice < 9) {
            auto written = co_await write(operations, inode, 0, text);
            if (!written) result = std::unexpected(written.error());
          } else {
            AlignedBuffer buffer(text.size());
            auto got = co_await operations.read(inode, 0, buffer.span());
            if (!got) result = std::unexpected(got.error());
            if (got &&
                !std::all_of(buffer.data(), buffer.data() + *got, [&](std::byte b) { return b == buffer.data()[0]; }))
              wrong.push_back(fmt::format("node {} operation {}: {} is of two writes", node, i, name));
          }
        }
        operations.forget(inode, 1);
      }
    }
    static const std::set<int> kExpected{0, EEXIST, ENOENT, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL};
    if (!result && !kExpected.contains(result.error().code()))
      wrong.push_back(fmt::format("node {} operation {}: {}", node, i, result.error().describe()));
  }
}

void random_mix(std::uint32_t count, std::uint64_t seed, int operations) {
  INFO("CORRAL_SEED=" << seed << " nodes " << count);
  MountedCluster cluster(count, seed);
  const BlockNo root = cluster.root();
  // The first charge makes the quota file grow.
  cluster.must(create(cluster[0], root, "charged", regular()));
  cluster.must(cluster.nodes[0]->filesystem->allocator().sync_quota());
  const std::uint64_t free_before = cluster.must(cluster[0].statistics()).free_blocks;
  const BlockNo top = cluster.must(create(cluster[0], root, "shared", directory()));
  for (std::uint32_t node = 1; node < count; ++node)
    cluster.must(find(cluster[node], root, "shared"));
  std::vector<std::string> wrong;
  std::vector<Task<void>> tasks;
  for (std::uint32_t node = 0; node < count; ++node)
    for (int client = 0; client < 2; ++client)
      tasks.push_back(mix(cluster, node, top, cluster.random.next(), operations, wrong));
  cluster.together(std::move(tasks));
  for (const std::string& line : wrong)
    UNSCOPED_INFO(line);
  CHECK(wrong.empty());
  // Every node sees the same names.
  std::vector<std::set<std::string>> listings(count);
  for (std::uint32_t node = 0; node < count; ++node) {
    auto& names = listings[node];
    cluster.must(cluster[node].list(top, {}, [&names](std::string_view name, const DirectoryEntry&, DirectoryCookie) {
      names.emplace(name);
      return true;
    }));
    CHECK(names == listings[0]);
  }
  for (const std::string& name : listings[0]) {
    if (name == "." || name == "..") continue;
    auto removed = cluster.run(cluster[count - 1].unlink(top, name));
    if (!removed) cluster.must(cluster[count - 1].remove_directory(top, name));
  }
  cluster.must(cluster[0].remove_directory(root, "shared"));
  for (std::uint32_t node = 0; node < count; ++node)
    cluster[node].forget(top, 1);
  cluster.unmount_all();
  cluster.check_volume();
  cluster.mount(0);
  CHECK(cluster.must(cluster[0].statistics()).free_blocks == free_before);
  cluster.unmount_all();
}

}  // namespace

TEST_CASE("a random mix of all nodes in one directory", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  for (std::uint32_t count = 2; count <= 4; ++count)
    random_mix(count, seed + count, 60);
}

TEST_CASE("a node dies in the middle of its work and another replays its journal", "[coherence]") {
  const std::uint64_t seed = fresh_seed();
  INFO("CORRAL_SEED=" << seed);
  MountedCluster cluster(3, seed);
  const BlockNo root = cluster.root();
  const BlockNo top = cluster.must(create(cluster[0], root, "shared", directory()));
  for (std::uint32_t node = 1; node < 3; ++node)
    cluster.must(find(cluster[node], root, "shared"));
  // What was synced before the death must be there after it.
  const BlockNo kept = cluster.must(create(cluster[2], top, "kept", regular()));
  const std::string contents(150'000, 'k');
  cluster.must(write(cluster[2], kept, 0, contents));
  cluster.must(cluster[2].fsync(kept, false));

  std::vector<std::string> wrong;
  {
    auto doomed = std::make_unique<Scope>(cluster.executor);
    doomed->spawn(mix(cluster, 2, top, cluster.random.next(), 1000, wrong));
    Scope living(cluster.executor);
    for (std::uint32_t node = 0; node < 2; ++node)
      living.spawn(mix(cluster, node, top, cluster.random.next(), 40, wrong));
    auto until_death = [](Executor& executor, Duration time) -> Task<int> {
      co_await executor.sleep_for(time);
      co_return 0;
    };
    cluster.run(until_death(cluster.executor, std::chrono::milliseconds(cluster.random.between(20, 800))));
    // Its requests first, then all that it had in memory.
    doomed.reset();
    cluster.kill(2);
    auto joined = [](Scope& scope) -> Task<int> {
      co_await scope.join();
      co_return 0;
    };
    cluster.run(joined(living));
  }
  cluster.wait_until_recovered();
  for (const std::string& line : wrong)
    UNSCOPED_INFO(line);
  CHECK(wrong.empty());
  for (std::uint32_t node = 0; node < 2; ++node) {
    const BlockNo file = cluster.must(find(cluster[node], top, "kept"));
    CHECK((cluster.must(read_all(cluster[node], file)) == contents));
  }
  cluster.unmount_all();
  cluster.check_volume();
}
