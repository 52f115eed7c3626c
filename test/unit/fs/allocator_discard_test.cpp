// FITRIM and -o discard: what is discarded is free, and stays out of use meanwhile.
#include "test/support/allocator_work.h"
#include "test/support/memory_device.h"

using namespace corral;
using namespace corral::test;

namespace {

/// Blocks that discards have covered since the history began.
std::vector<BlockNo> discarded_blocks(const SimulatedVolume& under, const ondisk::Geometry& geometry) {
  std::vector<BlockNo> blocks;
  for (const DiskEvent& event : under.disk.events()) {
    if (event.kind != DiskEvent::Kind::begin || event.operation->kind != DiskOperation::Kind::discard) continue;
    const std::uint64_t first = event.operation->offset_bytes >> geometry.block_shift();
    for (std::uint64_t i = 0; i < event.operation->length_bytes >> geometry.block_shift(); ++i)
      blocks.emplace_back(first + i);
  }
  std::ranges::sort(blocks);
  return blocks;
}

std::uint64_t bytes_of(AllocatorMount& m, std::size_t blocks) {
  return m.geometry.offset_bytes(BlockNo(blocks));
}

}  // namespace

TEST_CASE("allocator: trim discards what is free and committed, once", "[fs][allocator][discard]") {
  AllocatorImage image(4096, {1000, 200});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    constexpr std::uint64_t kAll = ~std::uint64_t{0};
    const auto& group = m.layout.groups[1];
    CO_TRY(const auto kept, co_await take(m, {.goal = group.first, .blocks = 100}));
    CO_TRY(const auto freed, co_await take(m, {.goal = group.first, .blocks = 50}));
    CO_TRY_VOID(co_await m.journal->flush());
    CO_TRY_VOID(co_await give_back(m, freed));
    m.under.disk.forget_history();

    const auto& other = m.layout.groups[2];
    CO_TRY(std::uint64_t bytes, co_await m.allocator->trim(bytes_of(m, other.first.value), bytes_of(m, 10), 0));
    CHECK(bytes == bytes_of(m, 10));
    CO_TRY(bytes, co_await m.allocator->trim(0, kAll, 0));
    // The 10 again, for their group was not trimmed as a whole; not the 50, whose freeing may be undone by a crash.
    CHECK(bytes / m.geometry.block_size() >= 850 + 200);
    const auto blocks = discarded_blocks(m.under, m.geometry);
    for (BlockNo block : kept)
      CHECK_FALSE(std::ranges::binary_search(blocks, block));
    for (BlockNo block : freed)
      CHECK_FALSE(std::ranges::binary_search(blocks, block));

    CO_TRY_VOID(co_await m.journal->flush());
    m.under.disk.forget_history();
    CO_TRY(bytes, co_await m.allocator->trim(0, kAll, 0));
    CHECK(bytes == bytes_of(m, 900));
    m.under.disk.forget_history();
    CO_TRY(bytes, co_await m.allocator->trim(0, kAll, 0));
    CHECK(bytes == 0);
    CHECK(discarded_blocks(m.under, m.geometry).empty());

    CO_TRY_VOID(co_await give_back(m, {kept[3], kept[4], kept[5], kept[50]}));
    CO_TRY_VOID(co_await m.journal->flush());
    // Runs shorter than the minimum are left, so the group still counts as not trimmed.
    CO_TRY(bytes, co_await m.allocator->trim(0, kAll, 3 * 4096));
    CHECK(bytes == bytes_of(m, 903));
    CO_TRY(bytes, co_await m.allocator->trim(0, kAll, 0));
    CHECK(bytes == bytes_of(m, 904));

    const auto beyond = co_await m.allocator->trim(bytes_of(m, other.first.value + 200), 4096, 0);
    CHECK((!beyond && beyond.error().code() == EINVAL));
    const auto nothing = co_await m.allocator->trim(0, 4095, 0);
    CHECK((!nothing && nothing.error().code() == EINVAL));
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
  take_census(under.disk.contents(), image.layout, image.geometry);
}

TEST_CASE("allocator: trim that is stopped ends after the extent that it is at", "[fs][allocator][discard]") {
  AllocatorImage image(4096, {1000, 200});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  SimulatedFault stuck;
  stuck.effect = SimulatedFault::Effect::stuck;
  stuck.operations = SimulatedFault::discards;
  stuck.skip = 1;
  const std::uint64_t fault = under.device.add_fault(stuck);
  auto trimming = [](AllocatorMount& m, std::stop_token stop, std::optional<int>& code) -> Task<void> {
    const auto trimmed = co_await m.allocator->trim(0, ~std::uint64_t{0}, 0, std::move(stop));
    code = trimmed ? 0 : trimmed.error().code();
  };
  auto scenario = [](AllocatorMount& m, std::uint64_t number, auto& trim) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    m.under.disk.forget_history();
    std::stop_source stop;
    std::optional<int> code;
    Scope scope(m.under.executor);
    scope.spawn(trim(m, stop.get_token(), code));
    for (int i = 0; i < 10; ++i)
      co_await m.under.executor.yield();
    CHECK_FALSE(code.has_value());
    stop.request_stop();
    m.under.device.remove_fault(number);
    co_await scope.join();
    CHECK(code == ECANCELED);
    // The group that was done to its end is not done again; nothing of the other is left out of play.
    CO_TRY(const std::uint64_t bytes, co_await m.allocator->trim(0, ~std::uint64_t{0}, 0));
    CHECK(bytes == bytes_of(m, 200));
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount, fault, trimming)));
}

TEST_CASE("allocator: blocks under discard are not allocated, and waited for before ENOSPC",
          "[fs][allocator][discard]") {
  AllocatorImage image(4096, {40});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  SimulatedFault stuck;
  stuck.effect = SimulatedFault::Effect::stuck;
  stuck.operations = SimulatedFault::discards;
  stuck.begin_bytes = image.geometry.offset_bytes(image.layout.groups[1].first);
  const std::uint64_t fault = under.device.add_fault(stuck);
  auto trimming = [](AllocatorMount& m) -> Task<void> { CHECK(co_await m.allocator->trim(0, ~std::uint64_t{0}, 0)); };
  auto allocating = [](AllocatorMount& m, bool& done) -> Task<void> {
    CHECK(co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 20}));
    done = true;
  };
  auto scenario = [](AllocatorMount& m, std::uint64_t number, auto& trim, auto& allocate) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    bool done = false;
    Scope scope(m.under.executor);
    scope.spawn(trim(m));
    scope.spawn(allocate(m, done));
    for (int i = 0; i < 10; ++i)
      co_await m.under.executor.yield();
    CHECK_FALSE(done);
    m.under.device.remove_fault(number);
    co_await scope.join();
    CHECK(done);
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount, fault, trimming, allocating)));
}

TEST_CASE("allocator: with -o discard freed blocks are discarded after their commit", "[fs][allocator][discard]") {
  AllocatorImage image(4096, {1000});
  SimulatedVolume under(image.image);
  MountOptions options;
  options.discard = true;
  AllocatorMount mount(under, image, options);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    CO_TRY(auto freed, co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 30}));
    CO_TRY_VOID(co_await give_back(m, freed));
    co_await m.under.executor.yield();
    CHECK(discarded_blocks(m.under, m.geometry).empty());
    CO_TRY_VOID(co_await m.journal->flush());
    co_await m.under.executor.yield();  // the worker's turn
    CHECK(discarded_blocks(m.under, m.geometry) == freed);
    CO_TRY(const auto again, co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 30}));
    CHECK(again == freed);

    // A device that refuses is not asked again, and the blocks come back all the same.
    SimulatedFault refusal;
    refusal.operations = SimulatedFault::discards;
    refusal.code = EOPNOTSUPP;
    m.under.device.add_fault(refusal);
    CO_TRY_VOID(co_await give_back(m, again));
    CO_TRY_VOID(co_await m.journal->flush());
    co_await m.under.executor.yield();
    CHECK(m.under.log.lines.size() == 1);
    CO_TRY(const auto third, co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 30}));
    CHECK(third == freed);
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: trim on a device that cannot discard", "[fs][allocator][discard]") {
  AllocatorImage image(4096, {40});
  SimulatedVolume under(image.image);
  MemoryDevice device(under.executor, image.image.size_bytes());
  image.image.read(0, device.bytes());
  AllocatorMount mount(under, image, {}, device);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const auto trimmed = co_await m.allocator->trim(0, ~std::uint64_t{0}, 0);
    CHECK((!trimmed && trimmed.error().code() == EOPNOTSUPP));
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}
