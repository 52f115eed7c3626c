// Blocks and dinodes: what is given out, taken back and counted.
#include <map>
#include <set>

#include "test/support/allocator_volume.h"
#include "test/support/allocator_work.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::test;
using ondisk::BlockState;

namespace {

/// Random work against a plain model; ends with the volume unmounted.
struct ModelRun {
  AllocatorMount& mount;
  Random random;
  std::map<BlockNo, BlockState> states;       ///< not free
  std::map<BlockNo, std::uint64_t> freed_in;  ///< free again, in that set of transactions
  std::uint64_t total = 0;
  std::array<AllocationWindow, 3> windows;

  ModelRun(AllocatorMount& where, const Census& start, std::uint64_t seed) : mount(where), random(seed) {
    for (const auto& [block, state] : start.states) {
      ++total;
      if (state != BlockState::free) states[block] = state;
    }
  }
  BlockNo any_block(BlockState state) {
    std::vector<BlockNo> candidates;
    for (const auto& [block, is] : states)
      if (is == state && block > mount.layout.groups.front().first + mount.layout.groups.front().blocks)
        candidates.push_back(block);
    return candidates.empty() ? BlockNo() : candidates[random.below(candidates.size())];
  }
  void took(BlockNo block, BlockState state) {
    CHECK_FALSE(states.contains(block));
    if (auto freed = freed_in.find(block); freed != freed_in.end()) {
      CHECK(freed->second <= mount.journal->committed_set());
      freed_in.erase(freed);
    }
    states[block] = state;
  }
  void freed(BlockNo block, std::uint64_t set) {
    states.erase(block);
    freed_in[block] = set;
  }

  Task<Result<>> allocate() {
    AllotmentRequest request;
    request.blocks = static_cast<std::uint32_t>(random.chance(1, 10) ? random.between(1, 60) : random.between(1, 6));
    request.wished = static_cast<std::uint32_t>(random.below(20));
    request.spread = random.chance(1, 10);
    if (random.chance(1, 2)) request.goal = any_block(BlockState::used);
    if (random.chance(1, 2)) request.window = &windows[random.below(windows.size())];
    const std::uint64_t free = total - states.size();
    auto taken = co_await take(mount, request);
    if (!taken) {
      // A single group must hold all blocks of a request, so ENOSPC may come early for large ones; never for one block.
      CHECK(taken.error().code() == ENOSPC);
      CHECK((request.blocks > 1 || free == 0));
      co_return Result<>{};
    }
    CHECK(taken->size() == request.blocks);
    for (BlockNo block : *taken)
      took(block, BlockState::used);
    co_return Result<>{};
  }
  Task<Result<>> free_some() {
    std::vector<BlockNo> blocks;
    for (std::uint64_t i = random.between(1, 20); i > 0; --i)
      if (BlockNo block = any_block(BlockState::used); block && std::ranges::find(blocks, block) == blocks.end())
        blocks.push_back(block);
    if (blocks.empty()) co_return Result<>{};
    const std::uint64_t set = mount.journal->running_set();
    CO_TRY_VOID(co_await give_back(mount, blocks));
    for (BlockNo block : blocks)
      freed(block, set);
    co_return Result<>{};
  }
  Task<Result<>> change_dinodes() {
    if (const BlockNo block = any_block(BlockState::unlinked); block && random.chance(1, 2)) {
      const std::uint64_t set = mount.journal->running_set();
      CO_TRY_VOID(co_await free_dinode(mount, block));
      freed(block, set);
    } else if (const BlockNo linked = any_block(BlockState::dinode); linked && random.chance(1, 2)) {
      CO_TRY_VOID(co_await unlink(mount, linked));
      states[linked] = BlockState::unlinked;
    } else {
      auto made = co_await take_dinode(mount, {.goal = any_block(BlockState::dinode)});
      if (made) took(made->block, BlockState::dinode);
    }
    co_return Result<>{};
  }
  Task<Result<>> check_counts() {
    CO_TRY(const SpaceFigures figures, co_await mount.allocator->figures());
    CHECK(figures.total_blocks == total);
    CHECK(figures.free_blocks == total - states.size());
    const auto dinodes = std::ranges::count_if(states, [](const auto& item) {
      return item.second == BlockState::dinode || item.second == BlockState::unlinked;
    });
    CHECK(figures.dinodes == static_cast<std::uint64_t>(dinodes));
    co_return Result<>{};
  }
  Task<Result<>> run(int steps) {
    CO_TRY_VOID(co_await mount.open());
    for (int step = 0; step < steps; ++step) {
      const std::uint64_t choice = random.below(100);
      // Phases of growing and of shrinking, so that the volume gets full and empty.
      const std::uint64_t grow = step / 100 % 2 == 0 ? 55 : 20;
      if (choice < grow) {
        CO_TRY_VOID(co_await allocate());
      } else if (choice < 75) {
        CO_TRY_VOID(co_await free_some());
      } else if (choice < 90) {
        CO_TRY_VOID(co_await change_dinodes());
      } else if (choice < 93) {
        CO_TRY_VOID(co_await mount.journal->flush());
      } else if (choice < 95) {
        windows[random.below(windows.size())].reset();
      } else if (choice < 97) {
        mount.allocator->drop_unused();
      } else if (choice < 98) {
        CO_TRY_VOID(co_await mount.allocator->sync_statfs());
      }
      CO_TRY_VOID(co_await check_counts());
    }
    co_return co_await mount.unmount();
  }
};

}  // namespace

TEST_CASE("allocator: random work agrees with a plain model at every block size", "[fs][allocator]") {
  const std::uint32_t block_size = GENERATE(512u, 1024u, 2048u, 4096u);
  const std::uint64_t seed = GENERATE(1u, 2u, 3u);
  AllocatorImage image(block_size, {64, 2000, 4, 132, 3000});
  SimulatedVolume under(image.image);
  {
    AllocatorMount mount(under, image);
    ModelRun model(mount, take_census(image.image, image.layout, image.geometry), seed);
    const auto result = under.run(model.run(600));
    INFO((result ? "" : result.error().describe()));
    REQUIRE(result);
    const Census census = take_census(under.disk.contents(), image.layout, image.geometry);
    for (const auto& [block, state] : census.states)
      CHECK(state == (model.states.contains(block) ? model.states.at(block) : BlockState::free));
  }
}

TEST_CASE("allocator: the very last block is allocated and can be given back", "[fs][allocator]") {
  const std::uint32_t block_size = GENERATE(512u, 4096u);
  AllocatorImage image(block_size, {40, 8, 2400});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    CO_TRY(SpaceFigures figures, co_await m.allocator->figures());
    std::set<BlockNo> all;
    while (figures.free_blocks > 0) {
      CO_TRY(const auto taken, co_await take(m, {.blocks = 1}));
      CHECK(all.insert(taken.front()).second);
      CO_TRY(figures, co_await m.allocator->figures());
    }
    for (int round = 0; round < 3; ++round) {
      const auto none = co_await take(m, {.blocks = 1});
      CHECK((!none && none.error().code() == ENOSPC));
      // Given back and not committed: the allocator commits it by itself rather than say ENOSPC.
      const BlockNo block = *std::next(all.begin(), round * 7);
      CO_TRY_VOID(co_await give_back(m, {block}));
      const std::uint64_t flushes = m.journal->counters().flushes;
      CO_TRY(const auto again, co_await take(m, {.blocks = 1}));
      CHECK(again.front() == block);
      CHECK(m.journal->counters().flushes == flushes + 1);
    }
    const auto dinode = co_await take_dinode(m, {});
    CHECK((!dinode && dinode.error().code() == ENOSPC));
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
  CHECK(take_census(under.disk.contents(), image.layout, image.geometry).counts.free == 0);
}

TEST_CASE("allocator: before ENOSPC it waits for inodes that are being freed", "[fs][allocator]") {
  AllocatorImage image(1024, {8});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  std::vector<BlockNo> held;
  auto free_held = [](AllocatorMount& m, std::vector<BlockNo>& blocks) -> Task<void> {
    CHECK(co_await give_back(m, blocks));
    blocks.clear();
  };
  mount.allocator->before_no_space = [&] { return free_held(mount, held); };
  auto scenario = [](AllocatorMount& m, std::vector<BlockNo>& blocks) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    CO_TRY(blocks, co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 8}));
    CO_TRY(const auto got, co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 8}));
    CHECK(got.size() == 8);
    CHECK(blocks.empty());
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount, held)));
}

TEST_CASE("allocator: freed blocks are not used again before their freeing has committed", "[fs][allocator]") {
  AllocatorImage image(1024, {400});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const BlockNo goal = m.layout.groups[1].first;
    CO_TRY(const auto first, co_await take(m, {.goal = goal, .blocks = 100}));
    CO_TRY_VOID(co_await give_back(m, first));
    CO_TRY(const auto second, co_await take(m, {.goal = goal, .blocks = 100}));
    std::vector<BlockNo> both;
    std::ranges::set_intersection(first, second, std::back_inserter(both));
    CHECK(both.empty());
    CO_TRY_VOID(co_await m.journal->flush());
    CO_TRY(const auto third, co_await take(m, {.goal = goal, .blocks = 100}));
    CHECK(third == first);
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: files written in turn do not interleave", "[fs][allocator]") {
  AllocatorImage image(1024, {60000});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    constexpr std::size_t kFiles = 4;
    constexpr int kWrites = 200;
    std::array<AllocationWindow, kFiles> windows;
    std::array<BlockNo, kFiles> last{};
    std::array<int, kFiles> extents{};
    for (int write = 0; write < kWrites; ++write)
      for (std::size_t file = 0; file < kFiles; ++file) {
        CO_TRY(const auto taken, co_await take(m, {.goal = last[file], .blocks = 16, .window = &windows[file]}));
        for (BlockNo block : taken) {
          if (block != last[file] + 1) ++extents[file];
          last[file] = block;
        }
      }
    // 3200 blocks each: without windows every write would be an extent of its own.
    for (std::size_t file = 0; file < kFiles; ++file)
      CHECK(extents[file] <= 12);
    for (AllocationWindow& window : windows)
      window.reset();
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: windows are given up where there is no other room", "[fs][allocator]") {
  AllocatorImage image(1024, {400});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const BlockNo goal = m.layout.groups[1].first;
    AllocationWindow window;
    CO_TRY(auto file, co_await take(m, {.goal = goal, .blocks = 20, .window = &window}));
    CO_TRY(file, co_await take(m, {.goal = goal, .blocks = 20, .window = &window}));
    CHECK(window.length > 0);
    CO_TRY(const auto other, co_await take(m, {.goal = goal, .blocks = 360}));
    CHECK(other.size() == 360);
    CHECK(window.length == 0);
    // A window that goes away leaves nothing behind.
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: what is allotted to one is not given to another", "[fs][allocator]") {
  AllocatorImage image(1024, {20});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const BlockNo goal = m.layout.groups[1].first;
    {
      CO_TRY(Allotment first, co_await m.allocator->allot({.goal = goal, .blocks = 12, .wished = 100}));
      CHECK(first.available() == 20);
      CO_TRY(Transaction transaction, co_await m.journal->begin({.blocks = first.log_blocks()}));
      CO_TRY(const Extent extent, first.take_blocks(transaction, 12));
      CHECK(extent.length == 12);
      CHECK(first.available() == 8);
    }
    CO_TRY(Allotment second, co_await m.allocator->allot({.goal = goal, .blocks = 5}));
    const auto refused = co_await m.allocator->allot({.goal = goal, .blocks = 4});
    CHECK((!refused && refused.error().code() == ENOSPC));
    CO_TRY(Allotment third, co_await m.allocator->allot({.goal = goal, .blocks = 3}));
    CHECK(third.available() == 3);
    second = Allotment();
    CO_TRY(Allotment fourth, co_await m.allocator->allot({.goal = goal, .blocks = 5}));
    CHECK(fourth.available() == 5);
    third = Allotment();
    fourth = Allotment();
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: more than allotted is refused", "[fs][allocator]") {
  AllocatorImage image(1024, {20});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    {
      CO_TRY(Allotment allotment, co_await m.allocator->allot({.blocks = 1}));
      CO_TRY(Transaction transaction, co_await m.journal->begin({.blocks = allotment.log_blocks()}));
      CO_TRY_VOID(allotment.take_blocks(transaction, 5));
      const auto more = allotment.take_blocks(transaction, 1);
      CHECK((!more && more.error().code() == ENOSPC));
      CHECK_FALSE(allotment.take_dinode(transaction));
    }
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: dinodes get generations that are never the same twice and never 0", "[fs][allocator]") {
  AllocatorImage image(1024, {100});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    std::uint64_t before = 0;
    for (int i = 0; i < 50; ++i) {
      CO_TRY(const auto made, co_await take_dinode(m, {.goal = m.layout.groups[1].first}));
      CHECK(made.generation == before + 1);
      before = made.generation;
      CO_TRY(const BlockState state, co_await m.allocator->state_of(made.block));
      CHECK(state == BlockState::dinode);
      CO_TRY_VOID(co_await unlink(m, made.block));
      CO_TRY_VOID(co_await free_dinode(m, made.block));
    }
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: unlinked dinodes are found, by a sweep and when their group is first used", "[fs][allocator]") {
  AllocatorImage image(512, {100, 3000, 100});
  SimulatedVolume under(image.image);
  std::vector<BlockNo> unlinked;
  auto fill = [](AllocatorMount& m, std::vector<BlockNo>& left) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    for (int i = 0; i < 30; ++i) {
      const BlockNo goal = m.layout.groups[i % 2 == 0 ? 2 : 3].first + (i % 2 == 0 ? 2000 : 0);
      CO_TRY(const auto born, co_await take_dinode(m, {.goal = goal}, BlockState::unlinked));
      CO_TRY(const auto made, co_await take_dinode(m, {.goal = goal}));
      left.push_back(born.block);
      if (i % 3 != 0) continue;
      CO_TRY_VOID(co_await unlink(m, made.block));
      left.push_back(made.block);
    }
    {  // linked again
      CO_TRY(Release release, co_await m.allocator->prepare_release(std::vector<BlockNo>{left.back()}));
      CO_TRY(Transaction transaction, co_await m.journal->begin({.blocks = release.log_blocks()}));
      CO_TRY_VOID(release.set_linked(transaction, left.back()));
      left.pop_back();
    }
    std::ranges::sort(left);
    co_return co_await m.unmount();
  };
  {
    AllocatorMount mount(under, image);
    require(under.run(fill(mount, unlinked)));
  }
  auto sweep = [](AllocatorMount& m, std::vector<BlockNo>& expected) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    std::vector<BlockNo> seen;
    m.allocator->on_unlinked_found = [&seen](std::span<const BlockNo> found) {
      seen.insert(seen.end(), found.begin(), found.end());
    };
    std::vector<BlockNo> visited;
    auto visit = [](AllocatorMount& inner, std::vector<BlockNo>& list, BlockNo block) -> Task<Result<>> {
      list.push_back(block);
      co_return co_await free_dinode(inner, block);  // may use the groups meanwhile
    };
    const std::function<Task<Result<>>(BlockNo)> visitor = [&](BlockNo block) { return visit(m, visited, block); };
    CO_TRY_VOID(co_await m.allocator->for_each_unlinked(visitor));
    CHECK(visited == expected);
    std::ranges::sort(seen);
    CHECK(seen == expected);
    visited.clear();
    CO_TRY_VOID(co_await m.allocator->for_each_unlinked(visitor));
    CHECK(visited.empty());
    co_return co_await m.unmount();
  };
  AllocatorMount mount(under, image);
  require(under.run(sweep(mount, unlinked)));
}

TEST_CASE("allocator: room and release at once, whatever groups they are in", "[fs][allocator]") {
  AllocatorImage image(1024, {40, 40, 40});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    std::vector<BlockNo> old;
    for (std::size_t group : {3u, 1u, 2u}) {
      CO_TRY(const auto taken, co_await take(m, {.goal = m.layout.groups[group].first, .blocks = 4}));
      old.insert(old.end(), taken.begin(), taken.end());
    }
    for (std::size_t group : {1u, 2u, 3u}) {
      CO_TRY(auto both,
             co_await m.allocator->allot_and_release({.goal = m.layout.groups[group].first, .blocks = 2}, old));
      CO_TRY(Transaction transaction,
             co_await m.journal->begin({.blocks = both.first.log_blocks() + both.second.log_blocks()}));
      CO_TRY(const Extent extent, both.first.take_blocks(transaction, 2));
      CHECK(extent.start > m.layout.groups[group].address);
      CO_TRY_VOID(both.second.free_blocks(transaction, {old.back(), 1}, Ownership{}));
      old.pop_back();
    }
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: the first allocation on a large volume reads one group", "[fs][allocator]") {
  AllocatorImage image(4096, std::vector<std::uint32_t>(2000, 20000));
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const std::uint64_t reads = m.under.device.counters().reads;
    CO_TRY_VOID(co_await take(m, {.goal = m.layout.groups[1000].first, .blocks = 10}));
    CHECK(m.under.device.counters().reads - reads <= m.layout.groups[1000].length);
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: full groups are remembered", "[fs][allocator]") {
  AllocatorImage image(1024, std::vector<std::uint32_t>(50, 40));
  SimulatedVolume under(image.image);
  MountOptions options;
  options.cache_bytes = 0;
  AllocatorMount mount(under, image, options);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    for (int i = 0; i < 49; ++i)
      CO_TRY_VOID(co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 40}));
    const std::uint64_t reads = m.under.device.counters().reads;
    CO_TRY_VOID(co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 1}));
    CHECK(m.under.device.counters().reads - reads <= 2);
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: NOALLOC groups are left alone, but take blocks back", "[fs][allocator]") {
  AllocatorImage image(1024, {40, 40});
  {
    std::vector<std::byte> bytes(1024);
    const auto& group = image.layout.groups[1];
    image.image.read(image.geometry.offset_bytes(group.address), bytes);
    auto& header = ondisk::view<ondisk::ResourceGroup>(std::span(bytes));
    header.flags = ondisk::kRgrpNoAllocate;
    header.free = 39;
    set_states(std::span(bytes).subspan(sizeof(header), 10), 7, 1, BlockState::used);
    header.crc = ondisk::rgrp_crc(header);
    image.image.write(image.geometry.offset_bytes(group.address), bytes);
  }
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    CO_TRY(const auto taken, co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 3}));
    CHECK(taken.front() >= m.layout.groups[2].first);
    CO_TRY_VOID(co_await give_back(m, {m.layout.groups[1].first + 7}));
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
  const Census census = take_census(under.disk.contents(), image.layout, image.geometry);
  CHECK(census.states.at(image.layout.groups[1].first + 7) == BlockState::free);
}
