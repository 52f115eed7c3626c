/// Whole nodes on one simulated disk and network under one clock: filesystem, lock manager, membership, reservations;
/// all that production has but the kernel and the wires.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "test/support/catch.h"
#include "test/support/formatted_volume.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/manual_clock.h"
#include "test/support/mounted_node.h"

namespace corral::test {

using namespace std::chrono_literals;

inline constexpr Caller kRoot{};

inline DiskImage shared_volume(std::uint32_t journals) {
  mkfs::FormatOptions options;
  options.journal_mebibytes = 8;
  options.journals = journals;
  options.lock_table = "test:shared";
  return formatted_volume(options, 160);
}

/// Nodes on one disk, one network, one clock.
class MountedCluster {
 public:
  MountedCluster(std::uint32_t count, std::uint64_t seed) : MountedCluster(count, seed, shared_volume(count)) {}
  /// On a volume with as many journals.
  MountedCluster(std::uint32_t count, std::uint64_t seed, DiskImage volume)
      : journals(count), disk(std::move(volume)), random(seed), network(executor, random.next()) {
    clock.advance_to(Time(1h));
    for (std::uint32_t i = 0; i < count; ++i)
      mount(i);
    disk.forget_history();
  }

  void mount(std::uint32_t number) {
    nodes.resize(std::max<std::size_t>(nodes.size(), number + 1));
    nodes[number] = std::make_unique<MountedNode>(MountedNode::World{executor, executor, disk, network, ends},
                                                  random.next(), SimulatedDeviceOptions::realistic());
    MountOptions options;
    options.commit_interval = std::chrono::milliseconds(random.between(5, 500));
    options.quota = QuotaMode::account;
    must(nodes[number]->start(fmt::format("node-{}", number), journals, options, random.split()));
  }

  /// Runs the task; if that takes longer than virtual time allows, says who waits for whom.
  template <class T>
  T run(Task<T> task) {
    std::optional<T> value;
    Scope scope(executor);
    auto runner = [](Task<T> inner, std::optional<T>& out) -> Task<void> { out.emplace(co_await inner); };
    scope.spawn(runner(std::move(task), value));
    const Time deadline = clock.now() + 600s;
    clock.run_until(executor, [&] { return value.has_value() || clock.now() > deadline; });
    if (!value) {
      std::string message;
      for (std::size_t i = 0; i < nodes.size(); ++i) {
        if (nodes[i] == nullptr) continue;
        if (nodes[i]->filesystem != nullptr) {
          for (const std::string& line : nodes[i]->filesystem->glocks().waiting())
            message += fmt::format("node {}: {}\n", i, line);
        }
        for (const std::string& line : nodes[i]->log.lines)
          if (line.find("jid=") == std::string::npos) message += fmt::format("node {} log: {}\n", i, line);
        if (nodes[i]->node != nullptr) message += nodes[i]->node->lock_manager().dump().text();
      }
      FAIL("somebody waits for ever:\n" << message);
    }
    return std::move(*value);
  }
  template <class T>
  T must(Task<Result<T>> task) {
    Result<T> result = run(std::move(task));
    if (!result) FAIL(result.error().describe());
    if constexpr (!std::is_void_v<T>) return std::move(*result);
  }
  /// All at the same time.
  void together(std::vector<Task<void>> tasks) { run(all(executor, std::move(tasks))); }

  void unmount(std::uint32_t number) {
    must(nodes[number]->stop());
    nodes[number].reset();
  }
  void unmount_all() {
    for (std::uint32_t i = 0; i < nodes.size(); ++i)
      if (nodes[i] != nullptr) unmount(i);
  }
  /// A node that was lost lets go of everything and comes back as a new incarnation. The kernel goes on to refer to
  /// what it knew.
  void rejoin(std::uint32_t number) {
    MountedNode& old = *nodes[number];
    CHECK(old.lost);
    const KnownInodes known = old.filesystem->inodes().known(root());
    CHECK_FALSE(run(old.stop()).has_value());
    nodes[number].reset();
    mount(number);
    nodes[number]->filesystem->inodes().remember(known);
  }
  void wait_until_lost(std::uint32_t number) {
    const Time deadline = clock.now() + 600s;
    clock.run_until(executor, [&] { return nodes[number]->lost || clock.now() > deadline; });
    REQUIRE(nodes[number]->lost);
  }
  /// The node is gone from one moment to the next.
  void kill(std::uint32_t number) { nodes[number].reset(); }
  /// Those that live are the members of one view, and know of nobody whose journal is still to be replayed.
  void wait_until_recovered() {
    const auto living = static_cast<std::size_t>(std::ranges::count_if(nodes, [](auto& n) { return n != nullptr; }));
    const Time deadline = clock.now() + 600s;
    const auto recovered = [&] {
      return std::ranges::all_of(nodes, [&](const auto& n) {
        return n == nullptr || (n->node->unrecovered().empty() && n->node->lock_manager().running() &&
                                n->node->lock_manager().view().members.size() == living);
      });
    };
    clock.run_until(executor, [&] { return recovered() || clock.now() > deadline; });
    CHECK(recovered());
  }
  void check_volume() {
    const std::string complaints = fsck_gfs2(disk.contents());
    if (!complaints.empty()) FAIL("fsck.gfs2: " << complaints);
  }
  Operations& operator[](std::uint32_t number) { return nodes[number]->operations(); }
  BlockNo root() {
    return std::ranges::find_if(nodes, [](auto& n) { return n != nullptr; })->get()->root();
  }

  static Task<int> all(Executor& executor, std::vector<Task<void>> tasks) {
    Scope scope(executor);
    for (auto& task : tasks)
      scope.spawn(std::move(task));
    co_await scope.join();
    co_return 0;
  }

  std::uint32_t journals;
  ManualClock clock;
  Executor executor{clock};
  SimulatedDisk disk;
  Random random;
  SimulatedLinks::Ends ends;
  SimulatedNetwork network;
  std::vector<std::unique_ptr<MountedNode>> nodes;
};

inline NewNode regular() {
  NewNode node;
  node.mode = S_IFREG | 0644;
  return node;
}
inline NewNode directory() {
  NewNode node;
  node.mode = S_IFDIR | 0755;
  return node;
}

inline std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline Task<Result<BlockNo>> create(Operations& operations, BlockNo parent, std::string name, NewNode node) {
  CO_TRY(Entry entry, co_await operations.create(parent, std::move(name), std::move(node), kRoot));
  co_return entry.attributes.inode;
}
inline Task<Result<BlockNo>> find(Operations& operations, BlockNo parent, std::string name) {
  CO_TRY(Entry entry, co_await operations.lookup(parent, std::move(name)));
  co_return entry.attributes.inode;
}
inline Task<Result<std::string>> read_all(Operations& operations, BlockNo inode) {
  CO_TRY(Attributes attributes, co_await operations.get_attributes(inode));
  AlignedBuffer buffer(std::max<std::size_t>(1, attributes.size_bytes));
  CO_TRY(std::size_t got, co_await operations.read(inode, 0, buffer.span().first(attributes.size_bytes)));
  co_return std::string(reinterpret_cast<const char*>(buffer.data()), got);
}
inline Task<Result<std::size_t>> write(Operations& operations, BlockNo inode, std::uint64_t offset, std::string text,
                                       int flags = 0) {
  co_return co_await operations.write(inode, offset, bytes_of(text), {.flags = flags, .caller = kRoot});
}

}  // namespace corral::test
