// What an allocation costs in memory; run by name: test_fs "[allocator-speed]".
#include <cstdio>
#include <ctime>

#include "test/support/allocator_work.h"

using namespace corral;
using namespace corral::test;

namespace {

/// Processor time, so that other work on the machine does not show.
class Stopwatch {
 public:
  void report(const char* what, int calls) const {
    const double spent = static_cast<double>(std::clock() - start_) / CLOCKS_PER_SEC;
    std::printf("%-60s %9.2f us a call\n", what, spent * 1e6 / calls);
  }

 private:
  std::clock_t start_ = std::clock();
};

/// A large group with every other block of it used, but for its end.
void fragment(AllocatorImage& image) {
  const auto& group = image.layout.groups[1];
  std::uint32_t used = 0;
  for (std::uint32_t i = 0; i + 1 < group.length; ++i) {
    std::vector<std::byte> bytes(image.geometry.block_size());
    const BlockNo block = group.address + i;
    image.image.read(image.geometry.offset_bytes(block), bytes);
    const std::size_t offset = i == 0 ? sizeof(ondisk::ResourceGroup) : sizeof(ondisk::MetaHeader);
    for (std::size_t at = offset; at < bytes.size(); ++at, used += 2)
      bytes[at] = std::byte{0x44};
    image.image.write(image.geometry.offset_bytes(block), bytes);
  }
  std::vector<std::byte> bytes(image.geometry.block_size());
  image.image.read(image.geometry.offset_bytes(group.address), bytes);
  auto& header = ondisk::view<ondisk::ResourceGroup>(std::span(bytes));
  header.free = header.free - used;
  header.crc = ondisk::rgrp_crc(header);
  image.image.write(image.geometry.offset_bytes(group.address), bytes);
}

Task<Result<>> empty_transactions(AllocatorMount& m, int calls) {
  for (int i = 0; i < calls; ++i)
    CO_TRY_VOID(co_await m.journal->begin({.blocks = 3}));
  co_return Result<>{};
}

Task<Result<>> fresh_group(AllocatorMount& m) {
  constexpr int kCalls = 100000;
  CO_TRY_VOID(co_await m.open());
  const BlockNo goal = m.layout.groups[1].first;
  CO_TRY_VOID(co_await take(m, {.goal = goal, .blocks = 1}));
  {
    const Stopwatch watch;
    CO_TRY_VOID(co_await empty_transactions(m, kCalls));
    watch.report("empty transaction, for comparison", kCalls);
  }
  std::vector<BlockNo> blocks;
  {
    const Stopwatch watch;
    for (int i = 0; i < kCalls; ++i) {
      CO_TRY(const auto dinode, co_await take_dinode(m, {.goal = goal}));
      blocks.push_back(dinode.block);
    }
    watch.report("allot, transaction, take a dinode, the goal unchanged", kCalls);
  }
  {
    const Stopwatch watch;
    for (BlockNo block : blocks)
      CO_TRY_VOID(co_await unlink(m, block));
    watch.report("prepare_release, transaction, set_unlinked", kCalls);
  }
  {
    const Stopwatch watch;
    for (BlockNo block : blocks)
      CO_TRY_VOID(co_await free_dinode(m, block));
    watch.report("prepare_release, transaction, free_dinode", kCalls);
  }
  CO_TRY_VOID(co_await m.journal->flush());
  AllocationWindow windows[2];
  {
    const Stopwatch watch;
    for (int i = 0; i < kCalls; ++i)
      CO_TRY_VOID(co_await take(m, {.goal = goal, .blocks = 1, .window = &windows[i % 2]}));
    watch.report("allot, transaction, take one block, two windows in turn", kCalls);
  }
  {
    const Stopwatch watch;
    for (int i = 0; i < 1000; ++i)
      CO_TRY_VOID(co_await take(m, {.goal = goal, .blocks = 256, .window = &windows[i % 2]}));
    watch.report("allot, transaction, take 256 blocks", 1000);
  }
  windows[0].reset();
  windows[1].reset();
  co_return co_await m.unmount();
}

Task<Result<>> fragmented_group(AllocatorMount& m) {
  constexpr int kCalls = 10000;
  CO_TRY_VOID(co_await m.open());
  const BlockNo goal = m.layout.groups[1].first;
  {
    const Stopwatch watch;
    CO_TRY_VOID(co_await take(m, {.goal = goal, .blocks = 1}));
    watch.report("first use of a group of 500,000 blocks", 1);
  }
  {
    const Stopwatch watch;
    for (int i = 0; i < kCalls; ++i)
      CO_TRY_VOID(co_await take(m, {.goal = goal, .blocks = 1}));
    watch.report("one block, every other block used, the goal unchanged", kCalls);
  }
  {
    const Stopwatch watch;
    CO_TRY_VOID(co_await take(m, {.goal = goal, .blocks = 4}));
    watch.report("4 neighbouring blocks where there are none near: first", 1);
  }
  {
    const Stopwatch watch;
    for (int i = 0; i < 3000; ++i)
      CO_TRY_VOID(co_await take(m, {.goal = goal, .blocks = 4}));
    watch.report("the same again", 3000);
  }
  co_return co_await m.unmount();
}

}  // namespace

TEST_CASE("allocator: speed", "[.][allocator-speed]") {
  AllocatorImage image(4096, {500000, 500000}, 32768);
  fragment(image);
  {
    SimulatedVolume under(image.image);
    AllocatorMount mount(under, image);
    require(under.run(fragmented_group(mount)));
  }
  std::swap(image.layout.groups[1], image.layout.groups[2]);
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  require(under.run(fresh_group(mount)));
}
