#include "journal/log_head.h"

#include "test/support/catch.h"
#include "test/support/test_journal.h"

using namespace corral;
using namespace corral::test;

namespace {

Result<JournalHead> head_of(const TestJournal& journal) {
  SimulatedVolume bench(journal.image);
  return bench.run(find_head(journal.access(bench)));
}

}  // namespace

TEST_CASE("the head of a fresh journal is where mkfs began, wherever that is") {
  for (std::uint32_t newest : {0u, 1u, 39u, 40u, 63u}) {
    TestJournal journal;
    journal.fill_as_mkfs(newest);
    auto head = head_of(journal);
    REQUIRE(head);
    CHECK(head->found);
    CHECK(head->block == newest);
    CHECK(head->sequence == TestJournal::kJournalBlocks - 1);
    CHECK(head->clean());
  }
}

TEST_CASE("the newest header is the head, with all that it says") {
  TestJournal journal;
  journal.fill_as_mkfs(60);
  journal.log_metadata({{500, TestJournal::metadata(1)}});
  const std::uint32_t head_block = journal.log_header(61, ondisk::kLogHeadFlushNormal, {1, -2, 3});
  CHECK(head_block == 63);
  auto head = head_of(journal);
  REQUIRE(head);
  CHECK(head->block == 63);
  CHECK(head->tail == 61);
  CHECK(head->sequence == journal.sequence - 1);
  CHECK(head->flags == ondisk::kLogHeadFlushNormal);
  CHECK_FALSE(head->clean());
  CHECK(head->extras.local_total == 1);
  CHECK(head->extras.local_free == -2);
  CHECK(head->extras.local_dinodes == 3);
}

TEST_CASE("a header that was not written completely gives way to the one before it") {
  TestJournal journal;
  journal.fill_as_mkfs(10);
  const std::uint32_t first = journal.log_header(11);
  const std::uint32_t second = journal.log_header(12);
  const TestJournal sound = journal;
  REQUIRE(head_of(sound)->block == second);
  auto damaged = [&](std::size_t offset) {
    TestJournal copy = sound;
    auto block = copy.log_block(second);
    block[offset] ^= std::byte{1};
    copy.put_log_block(second, block);
    return head_of(copy);
  };
  const std::size_t places[] = {0, 7, 31, 44, 48, 60, 119, TestJournal::kBlockBytes - 1};
  for (std::size_t offset : places) {
    INFO("byte " << offset);
    REQUIRE(damaged(offset));
    CHECK(damaged(offset)->block == first);
  }
}

TEST_CASE("a header of old kernels, without a crc, counts") {
  TestJournal journal;
  journal.fill_as_mkfs(10);
  const std::uint32_t place = journal.log_header(11);
  auto block = journal.log_block(place);
  ondisk::view<ondisk::LogHeader>(block).crc = 0u;
  journal.put_log_block(place, block);
  CHECK(head_of(journal)->block == place);
}

TEST_CASE("a header that says it is another block does not count") {
  TestJournal journal;
  journal.fill_as_mkfs(10);
  journal.put_log_block(11, TestJournal::header(13, 5000, 11));
  CHECK(head_of(journal)->block == 10);
}

TEST_CASE("a journal without any header is clean") {
  TestJournal journal;
  auto head = head_of(journal);
  REQUIRE(head);
  CHECK_FALSE(head->found);
  CHECK(head->clean());
}

TEST_CASE("a head with a tail outside the journal is refused") {
  TestJournal journal;
  journal.fill_as_mkfs(10);
  journal.log_header(TestJournal::kJournalBlocks);
  auto head = head_of(journal);
  REQUIRE_FALSE(head);
  CHECK(head.error().kind() == ErrorKind::corrupt);
  CHECK(head.error().message().find("tail 64") != std::string::npos);
}

TEST_CASE("a device error ends the search and names the place") {
  TestJournal journal;
  journal.fill_as_mkfs(63);
  SimulatedVolume bench(journal.image);
  bench.device.add_fault({.operations = SimulatedFault::reads,
                          .begin_bytes = 110 * TestJournal::kBlockBytes,
                          .end_bytes = 111 * TestJournal::kBlockBytes});
  auto head = bench.run(find_head(journal.access(bench)));
  REQUIRE_FALSE(head);
  CHECK(head.error().code() == EIO);
  CHECK(head.error().message().find("journal block 40 of simulated") != std::string::npos);
}

TEST_CASE("the search reads ahead and in large pieces, and stops behind the head") {
  SimulatedVolume bench(DiskImage(64 << 20));
  JournalMap map;
  map.append(BlockNo(1000), 8192);
  ondisk::Geometry geometry(4096);
  auto block = [](std::uint32_t place, std::uint64_t sequence) {
    std::vector<std::byte> bytes(4096);
    auto& header = ondisk::view<ondisk::LogHeader>(bytes);
    header.header.set(ondisk::MetaType::log_header);
    header.sequence = sequence;
    header.block_number = place;
    TestJournal::seal(bytes);
    return bytes;
  };
  DiskImage image(64 << 20);
  for (std::uint32_t place = 0; place < 8192; place += 64)
    image.write((1000 + place) * 4096ull, block(place, place <= 640 ? 9000 + place : place));
  SimulatedVolume filled(std::move(image));
  auto head = filled.run(find_head({filled.executor, filled.device, geometry, map}));
  REQUIRE(head);
  CHECK(head->block == 640);
  CHECK(filled.device.counters().reads <= 8);
  CHECK(filled.device.counters().bytes_read <= 8 * LogReader::kChunkBytes);
}
