#include "journal/log_scan.h"

#include "test/support/catch.h"
#include "test/support/test_journal.h"

using namespace corral;
using namespace corral::test;
using Fate = LoggedBlock::Fate;

namespace {

Result<LogPlan> plan_of(const TestJournal& journal) {
  SimulatedVolume bench(journal.image);
  auto head = bench.run(find_head(journal.access(bench)));
  REQUIRE(head);
  const WritableBlocks writable(TestJournal::kVolumeBlocks, journal.geometry, std::span(&journal.map, 1));
  return bench.run(scan_log(journal.access(bench), *head, writable));
}

/// The fates of the states of one block, oldest first.
std::vector<Fate> fates(const LogPlan& plan, std::uint64_t place) {
  std::vector<Fate> found;
  for (const LoggedBlock& block : plan.blocks)
    if (block.place == BlockNo(place)) found.push_back(block.fate);
  return found;
}

TestJournal started(std::uint32_t at) {
  TestJournal journal;
  journal.fill_as_mkfs(at - 1);
  return journal;
}

void check_refused(const TestJournal& journal, const std::string& text) {
  auto plan = plan_of(journal);
  REQUIRE_FALSE(plan);
  CHECK(plan.error().kind() == ErrorKind::corrupt);
  INFO(plan.error().message());
  CHECK(plan.error().message().find(text) != std::string::npos);
}

}  // namespace

TEST_CASE("of several states of a block the last one is written") {
  TestJournal journal = started(10);
  journal.log_metadata({{500, TestJournal::metadata(1)}, {501, TestJournal::metadata(1)}});
  journal.log_header(10);
  journal.log_metadata({{500, TestJournal::metadata(2)}});
  journal.log_header(10);
  auto plan = plan_of(journal);
  REQUIRE(plan);
  CHECK(fates(*plan, 500) == std::vector{Fate::superseded, Fate::write});
  CHECK(fates(*plan, 501) == std::vector{Fate::write});
  CHECK(plan->replayed_blocks == 3);
  CHECK(plan->written_blocks == 2);
}

TEST_CASE("a revoke covers what stands before it, not what follows") {
  TestJournal journal = started(10);
  journal.log_metadata({{500, TestJournal::metadata(1)}, {501, TestJournal::metadata(1)}});
  journal.log_header(10);
  journal.log_revokes({500, 700});
  journal.log_header(10);
  journal.log_metadata({{500, TestJournal::metadata(2)}});
  journal.log_header(10);
  auto plan = plan_of(journal);
  REQUIRE(plan);
  CHECK(fates(*plan, 500) == std::vector{Fate::revoked, Fate::write});
  CHECK(fates(*plan, 501) == std::vector{Fate::write});
  CHECK(plan->revokes == 2);
  CHECK(plan->replayed_blocks == 2);
}

TEST_CASE("a block revoked twice is revoked up to the later one, and counts once") {
  TestJournal journal = started(10);
  journal.log_revokes({500});
  journal.log_metadata({{500, TestJournal::metadata(1)}});
  journal.log_revokes({500});
  journal.log_metadata({{500, TestJournal::metadata(2)}});
  journal.log_header(10);
  auto plan = plan_of(journal);
  REQUIRE(plan);
  CHECK(fates(*plan, 500) == std::vector{Fate::revoked, Fate::write});
  CHECK(plan->revokes == 1);
}

TEST_CASE("order holds round the journal's end, at every offset") {
  for (std::uint32_t at = 1; at < TestJournal::kJournalBlocks; ++at) {
    TestJournal journal = started(at);
    journal.log_metadata({{500, TestJournal::metadata(1)}, {501, TestJournal::metadata(1)}});
    journal.log_revokes({500, 502});
    journal.log_data({{502, TestJournal::file_data(1)}});
    journal.log_metadata({{501, TestJournal::metadata(2)}});
    journal.log_header(at);
    auto plan = plan_of(journal);
    REQUIRE(plan);
    CHECK(fates(*plan, 500) == std::vector{Fate::revoked});
    CHECK(fates(*plan, 501) == std::vector{Fate::superseded, Fate::write});
    CHECK(fates(*plan, 502) == std::vector{Fate::write});
  }
}

TEST_CASE("revokes go on in log blocks") {
  TestJournal journal = started(10);
  std::vector<std::uint64_t> many;
  for (std::uint64_t i = 0; i < 400; ++i)
    many.push_back(1000 + i);
  journal.log_metadata({{1000, TestJournal::metadata(1)}, {1399, TestJournal::metadata(1)}});
  journal.log_revokes(many);
  journal.log_header(10);
  auto plan = plan_of(journal);
  REQUIRE(plan);
  CHECK(plan->revokes == 400);
  CHECK(fates(*plan, 1000) == std::vector{Fate::revoked});
  CHECK(fates(*plan, 1399) == std::vector{Fate::revoked});

  const std::uint32_t second_revoke_block = 10 + 3 + 1;
  auto block = journal.log_block(second_revoke_block);
  ondisk::view<ondisk::MetaHeader>(block).set(ondisk::MetaType::leaf);
  journal.put_log_block(second_revoke_block, block);
  check_refused(journal, "block 14");
}

TEST_CASE("journaled data says whether it was escaped") {
  TestJournal journal = started(10);
  journal.log_data({{500, TestJournal::file_data(1)}, {501, TestJournal::data_that_looks_like_metadata(1)}});
  journal.log_header(10);
  auto plan = plan_of(journal);
  REQUIRE(plan);
  REQUIRE(plan->blocks.size() == 2);
  CHECK(plan->blocks[0].journaled_data);
  CHECK_FALSE(plan->blocks[0].escaped);
  CHECK(plan->blocks[1].escaped);
}

TEST_CASE("a descriptor of unknown type is skipped with its blocks") {
  TestJournal journal = started(10);
  journal.append(TestJournal::descriptor(ondisk::LogDescriptorType{999}, 3, 0));
  journal.append(TestJournal::file_data(1));
  journal.append(TestJournal::file_data(2));
  journal.log_metadata({{500, TestJournal::metadata(1)}});
  journal.log_header(10);
  auto plan = plan_of(journal);
  REQUIRE(plan);
  CHECK(plan->unknown_descriptors == 1);
  CHECK(plan->blocks.size() == 1);
}

TEST_CASE("metadata without the magic number is refused, unless it was revoked") {
  TestJournal journal = started(10);
  journal.log_metadata({{500, TestJournal::metadata(1)}, {501, TestJournal::file_data(1)}});
  journal.log_header(10);
  check_refused(journal, "journal block 12: logged as metadata block 501");
  journal.log_revokes({501});
  journal.log_header(10);
  CHECK(plan_of(journal));
}

TEST_CASE("places that no log may write to are refused, unless revoked") {
  const std::uint64_t superblock = 64;
  for (std::uint64_t place : {std::uint64_t{0}, superblock, TestJournal::kVolumeBlocks, std::uint64_t{200},
                              std::uint64_t{239}, std::uint64_t{100}, std::uint64_t{123}, ~std::uint64_t{0}}) {
    TestJournal journal = started(10);
    journal.log_metadata({{place, TestJournal::metadata(1)}});
    journal.log_header(10);
    check_refused(journal, fmt::format("journal block 11: logged for block {}", place));
    journal.log_revokes({place});
    journal.log_header(10);
    CHECK(plan_of(journal));
  }
  for (std::uint64_t place : {superblock + 1, std::uint64_t{99}, std::uint64_t{124}, std::uint64_t{199},
                              std::uint64_t{240}, TestJournal::kVolumeBlocks - 1}) {
    TestJournal journal = started(10);
    journal.log_metadata({{place, TestJournal::metadata(1)}});
    journal.log_header(10);
    CHECK(plan_of(journal));
  }
}

TEST_CASE("a log that contradicts itself is refused") {
  TestJournal journal = started(10);
  SECTION("a descriptor of no length, which would never end") {
    journal.append(TestJournal::descriptor(ondisk::LogDescriptorType::metadata, 0, 0));
    journal.log_header(10);
    check_refused(journal, "journal block 10: length 0");
  }
  SECTION("a descriptor that reaches beyond the head") {
    journal.append(TestJournal::descriptor(ondisk::LogDescriptorType::metadata, 4, 3));
    journal.append(TestJournal::metadata(1));
    journal.log_header(10);
    check_refused(journal, "journal block 10: 4 blocks long");
  }
  SECTION("more entries than blocks") {
    journal.append(TestJournal::descriptor(ondisk::LogDescriptorType::metadata, 2, 2));
    journal.append(TestJournal::metadata(1));
    journal.log_header(10);
    check_refused(journal, "2 entries");
  }
  SECTION("something else where a descriptor must be") {
    journal.append(TestJournal::metadata(1));
    journal.log_header(10);
    check_refused(journal, "journal block 10: not a log descriptor");
  }
  SECTION("a damaged header on the way") {
    const std::uint32_t header = journal.log_header(10);
    journal.log_metadata({{500, TestJournal::metadata(1)}});
    journal.log_header(10);
    auto block = journal.log_block(header);
    block[60] ^= std::byte{1};
    journal.put_log_block(header, block);
    check_refused(journal, "crc");
  }
  SECTION("a tail in the middle of a transaction") {
    journal.log_metadata({{500, TestJournal::metadata(1)}});
    journal.log_header(11);
    check_refused(journal, "journal block 11: not a log descriptor");
  }
}

TEST_CASE("a log with nothing but a header holds nothing") {
  TestJournal journal = started(10);
  journal.log_header(10);
  auto plan = plan_of(journal);
  REQUIRE(plan);
  CHECK(plan->blocks.empty());
}
