#include "journal/journal.h"

#include <memory>

#include "ondisk/checksum.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"
#include "test/support/memory_device.h"

using namespace corral;

namespace {

Result<> any_block(std::span<const std::byte>, BlockNo, const ondisk::Geometry&) {
  return {};
}

constexpr std::uint32_t kBlockSize = 1024;
constexpr std::uint32_t kJournalStart = 100;
constexpr std::uint32_t kJournalBlocks = 256;

struct Fixture {
  ManualClock clock;
  Executor executor{clock};
  ondisk::Geometry geometry{kBlockSize};
  MemoryDevice device{executor, 4u << 20};
  NullLogSink sink;
  BlockCache cache{executor, device, geometry, 64 * kBlockSize};
  BlockOwner owner;
  std::unique_ptr<Journal> journal;
  int failures = 0;

  Fixture() {
    JournalMap map;
    map.append(BlockNo(kJournalStart), 100);
    map.append(BlockNo(kJournalStart + 200), kJournalBlocks - 100);  // two extents
    Journal::Options options;
    options.head_block = 250;  // wraps soon
    options.on_failure = [this](const Error&) { ++failures; };
    journal = std::make_unique<Journal>(executor, cache, map, options, Logger(sink));
    journal->start();
  }
  ~Fixture() {
    journal.reset();
    cache.discard_all();
  }

  template <class T>
  T run(Task<T> task) {
    return run_to_end(clock, executor, std::move(task));
  }

  Task<Result<>> write_blocks(std::uint64_t first, std::uint32_t count, std::uint64_t value) {
    std::vector<BlockRef> blocks;
    for (std::uint32_t i = 0; i < count; ++i) {
      CO_TRY(BlockRef block, co_await cache.read(owner, BlockNo(first + i), any_block));
      blocks.push_back(std::move(block));
    }
    CO_TRY(Transaction transaction, co_await journal->begin({.blocks = count, .revokes = 0}));
    for (const BlockRef& block : blocks)
      transaction.modify_as<ondisk::be64>(*block, 24) = value;
    co_return Result<>{};
  }

  Task<Result<>> free_block(std::uint64_t number) {
    CO_TRY(Transaction transaction, co_await journal->begin({.blocks = 0, .revokes = 1}));
    transaction.free_block(BlockNo(number));
    co_return Result<>{};
  }

  Task<int> begin_error(std::uint32_t blocks) {
    auto transaction = co_await journal->begin({.blocks = blocks, .revokes = 0});
    co_return transaction ? 0 : transaction.error().code();
  }

  std::span<const std::byte> disk() { return device.bytes(); }
  std::uint64_t on_disk(std::uint64_t number) { return ondisk::view<ondisk::be64>(disk(), number * kBlockSize + 24); }
  std::span<const std::byte> journal_block(std::uint32_t block) {
    std::uint64_t number = block < 100 ? kJournalStart + block : kJournalStart + 200 + block - 100;
    return disk().subspan(number * kBlockSize, kBlockSize);
  }
};

}  // namespace

TEST_CASE("changes reach the log at the flush and their places when space is made") {
  Fixture f;
  REQUIRE(f.run(f.write_blocks(1000, 5, 7)));
  REQUIRE(f.run(f.journal->flush()));
  // A descriptor at 250, five states, the header behind them, past the journal's end.
  const auto& descriptor = ondisk::view<ondisk::LogDescriptor>(f.journal_block(250));
  CHECK(descriptor.header.meta_type() == ondisk::MetaType::log_descriptor);
  CHECK(descriptor.length == 6);
  CHECK(descriptor.data1 == 5);
  auto block = f.journal_block(0);
  const auto& header = ondisk::view<ondisk::LogHeader>(block);
  CHECK(header.block_number == 0);
  CHECK(header.tail == 250);
  CHECK(header.hash == ondisk::log_header_hash(header));
  CHECK(header.crc == ondisk::log_header_crc(block));
  REQUIRE(f.run(f.journal->shut_down(true)));
  CHECK(f.on_disk(1004) == 7);
  CHECK(f.failures == 0);
}

TEST_CASE("a log much smaller than the work never stalls and everything lands") {
  Fixture f;
  auto work = [](Fixture& fixture) -> Task<Result<>> {
    for (std::uint64_t i = 0; i < 500; ++i)
      CO_TRY_VOID(co_await fixture.write_blocks(1000 + i * 3 % 2000, 20, i + 1));
    co_return Result<>{};
  };
  REQUIRE(f.run(work(f)));
  CHECK(f.journal->counters().flushes > 10);
  REQUIRE(f.run(f.journal->shut_down(true)));
  CHECK(f.on_disk(1000 + 499 * 3 % 2000) == 500);
}

TEST_CASE("a block that is freed while another set is committed holds the tail until its freeing commits") {
  struct FreesMeanwhile final : OrderedData {
    Fixture* fixture = nullptr;
    Task<Result<>> write_ordered() override { co_return co_await fixture->free_block(1000); }
  };
  Fixture f;
  FreesMeanwhile data;
  data.fixture = &f;
  REQUIRE(f.run(f.write_blocks(1000, 1, 1)));
  REQUIRE(f.run(f.journal->flush()));
  auto change = [](Fixture& fixture, OrderedData& ordered) -> Task<Result<>> {
    CO_TRY(BlockRef block, co_await fixture.cache.read(fixture.owner, BlockNo(1010), any_block));
    CO_TRY(Transaction transaction, co_await fixture.journal->begin({.blocks = 1, .revokes = 0}));
    transaction.modify_as<ondisk::be64>(*block, 24) = std::uint64_t{2};
    transaction.order(ordered);
    co_return Result<>{};
  };
  REQUIRE(f.run(change(f, data)));
  REQUIRE(f.run(f.journal->flush()));
  // Block 1000 is not in its place, and as far as a replay can tell it is in use.
  CHECK(f.on_disk(1000) == 0);
  const auto& second = ondisk::view<ondisk::LogHeader>(f.journal_block(255));
  REQUIRE(second.block_number == 255);
  CHECK(second.tail == 250);
  REQUIRE(f.run(f.journal->flush()));
  const auto& third = ondisk::view<ondisk::LogHeader>(f.journal_block(1));
  REQUIRE(third.block_number == 1);
  CHECK(third.tail == 253);
  REQUIRE(f.run(f.journal->shut_down(true)));
}

TEST_CASE("a committed state is not lost while a newer one is only in memory") {
  Fixture f;
  REQUIRE(f.run(f.write_blocks(1000, 1, 1)));
  REQUIRE(f.run(f.journal->flush()));
  REQUIRE(f.run(f.write_blocks(1000, 1, 2)));
  BlockRef block = f.cache.find(f.owner, BlockNo(1000));
  CHECK(block->pinned());
  CHECK(block->in_log());
  block = nullptr;
  REQUIRE(f.run(f.journal->shut_down(true)));
  CHECK(f.on_disk(1000) == 2);
}

TEST_CASE("a freed block is revoked and never written in place afterwards") {
  Fixture f;
  REQUIRE(f.run(f.write_blocks(1000, 1, 5)));
  REQUIRE(f.run(f.journal->flush()));
  REQUIRE(f.run(f.free_block(1000)));
  REQUIRE(f.run(f.journal->shut_down(true)));
  CHECK(f.on_disk(1000) == 0);
  CHECK(f.journal->counters().revokes == 1);
}

TEST_CASE("concurrent flushes share one commit") {
  Fixture f;
  REQUIRE(f.run(f.write_blocks(1000, 1, 1)));
  auto many = [](Fixture& fixture) -> Task<int> {
    int good = 0;
    auto one = [](Fixture& inner, int& count) -> Task<void> {
      Result<> done = co_await inner.journal->flush_with_device();
      count += done.has_value();
    };
    Scope scope(fixture.executor);
    for (int i = 0; i < 10; ++i)
      scope.spawn(one(fixture, good));
    co_await scope.join();
    co_return good;
  };
  CHECK(f.run(many(f)) == 10);
  CHECK(f.journal->counters().flushes == 1);
}

TEST_CASE("a device error fails the journal once and for all") {
  Fixture f;
  REQUIRE(f.run(f.write_blocks(1000, 1, 1)));
  f.device.failing = true;
  CHECK_FALSE(f.run(f.journal->flush()));
  CHECK(f.journal->failed());
  CHECK(f.failures == 1);
  CHECK(f.run(f.begin_error(1)) == EIO);
}

TEST_CASE("a transaction that can never fit is refused") {
  Fixture f;
  CHECK(f.run(f.begin_error(kJournalBlocks)) == ENOSPC);
  CHECK(f.run(f.begin_error(1)) == 0);
}

TEST_CASE("the cache keeps clean blocks within its limit") {
  Fixture f;
  auto walk = [](Fixture& fixture) -> Task<Result<>> {
    for (std::uint64_t i = 0; i < 500; ++i) {
      CO_TRY(BlockRef block, co_await fixture.cache.read(fixture.owner, BlockNo(1000 + i), any_block));
    }
    co_return Result<>{};
  };
  REQUIRE(f.run(walk(f)));
  CHECK(f.cache.cached_bytes() <= 64 * kBlockSize);
}

TEST_CASE("what another owner has left of a block is not found") {
  Fixture f;
  REQUIRE(f.run(f.write_blocks(1000, 1, 5)));
  BlockOwner other;
  CHECK(f.cache.find(f.owner, BlockNo(1000)) != nullptr);
  CHECK(f.cache.find(other, BlockNo(1000)) == nullptr);
  REQUIRE(f.run(f.journal->shut_down(true)));
}

TEST_CASE("a block that two owners claim is a damage, not a crash") {
  Fixture f;
  BlockOwner other;
  auto both = [](Fixture& fixture, BlockOwner& second) -> Task<ErrorKind> {
    auto first = co_await fixture.cache.read(fixture.owner, BlockNo(1000), any_block);
    auto again = co_await fixture.cache.read(second, BlockNo(1000), any_block);
    co_return again ? ErrorKind::expected : again.error().kind();
  };
  CHECK(f.run(both(f, other)) == ErrorKind::corrupt);
}

TEST_CASE("a block beyond the device's end is a damage that names it and who needs it") {
  Fixture f;
  auto read = [](Fixture& fixture, std::uint64_t number) -> Task<Error> {
    auto block = co_await fixture.cache.read(fixture.owner, BlockNo(number), any_block);
    co_return block ? Error(0) : block.error();
  };
  for (const std::uint64_t number : {std::uint64_t{4096}, ~std::uint64_t{0}, std::uint64_t{1} << 54}) {
    const Error error = f.run(read(f, number));
    CHECK(error.kind() == ErrorKind::corrupt);
    CHECK(error.message().find(std::to_string(number)) != std::string::npos);
  }
  CHECK(f.run(read(f, 4095)).code() == 0);
}

TEST_CASE("a block that is taken for something else while it is read is a damage, not a crash") {
  Fixture f;
  BlockOwner other;
  ErrorKind found = ErrorKind::expected;
  auto read = [](Fixture& fixture, ErrorKind& kind) -> Task<void> {
    auto block = co_await fixture.cache.read(fixture.owner, BlockNo(1000), any_block);
    if (!block) kind = block.error().kind();
  };
  auto both = [](Fixture& fixture, BlockOwner& second, Task<void> reading) -> Task<int> {
    Scope scope(fixture.executor);
    scope.spawn(std::move(reading));
    fixture.cache.create(second, BlockNo(1000));
    co_await scope.join();
    co_return 0;
  };
  f.run(both(f, other, read(f, found)));
  CHECK(found == ErrorKind::corrupt);
  CHECK(f.run(f.free_block(1000)));
}
