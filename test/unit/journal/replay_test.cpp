#include "journal/replay.h"

#include "journal/in_place_writer.h"
#include "test/support/catch.h"
#include "test/support/test_journal.h"

using namespace corral;
using namespace corral::test;

namespace {

/// A dirty journal with something of everything, going round the journal's end and full up to a few blocks if `full`.
TestJournal dirty_journal(bool full = false) {
  TestJournal journal;
  journal.fill_as_mkfs(54);
  const std::uint32_t tail = journal.position;
  journal.log_metadata({{500, TestJournal::metadata(1)}, {501, TestJournal::metadata(1)}});
  journal.log_header(tail, ondisk::kLogHeadFlushNormal, {0, 1, 1});
  journal.log_data({{700, TestJournal::file_data(1)}, {701, TestJournal::data_that_looks_like_metadata(1)}});
  journal.log_metadata({{502, TestJournal::metadata(2)}, {500, TestJournal::metadata(2)}});
  journal.log_revokes({501});
  journal.put(BlockNo(501), TestJournal::file_data(7));
  while (full && journal.position != tail - 4) {
    journal.log_metadata({{900, TestJournal::metadata(1)}});
    if (journal.position == tail - 5) break;
  }
  journal.log_metadata(
      {{TestJournal::kLocalStatfs.value, TestJournal::statfs_block(TestJournal::kLocalStatfs, {0, -9, 4})}});
  journal.log_header(tail, ondisk::kLogHeadFlushNormal, {0, -9, 4});
  return journal;
}

void check_replayed(const DiskImage& image) {
  CHECK(TestJournal::read(image, BlockNo(500)) == TestJournal::metadata(2));
  CHECK(TestJournal::read(image, BlockNo(501)) == TestJournal::file_data(7));
  CHECK(TestJournal::read(image, BlockNo(502)) == TestJournal::metadata(2));
  CHECK(TestJournal::read(image, BlockNo(700)) == TestJournal::file_data(1));
  CHECK(TestJournal::read(image, BlockNo(701)) == TestJournal::data_that_looks_like_metadata(1));
  // Not added up: the master file may stand in another journal that is still to be replayed.
  CHECK(TestJournal::statfs(image, TestJournal::kMasterStatfs) == TestJournal::Statfs{1000, 500, 100});
  CHECK(TestJournal::statfs(image, TestJournal::kLocalStatfs) == TestJournal::Statfs{0, -9, 4});
}

/// The volume without its journal.
DiskImage without_journal(DiskImage image, const TestJournal& journal) {
  for (const JournalMap::Extent& extent : journal.map.extents())
    image.fill(extent.start.value * TestJournal::kBlockBytes, std::uint64_t{extent.length} * TestJournal::kBlockBytes,
               std::byte{0});
  return image;
}

}  // namespace

TEST_CASE("a replay brings the volume to the last transaction and leaves the journal clean") {
  const TestJournal journal = dirty_journal();
  SimulatedVolume bench(journal.image);
  auto report = bench.run(replay_journal(journal.job(bench)));
  REQUIRE(report);
  CHECK(report->replayed);
  check_replayed(bench.disk.contents());

  auto head = bench.run(find_head(journal.access(bench)));
  REQUIRE(head);
  CHECK(head->flags == (ondisk::kLogHeadUnmount | ondisk::kLogHeadRecovery));
  CHECK(journal.access(bench).forward(head->block, 1) == report->next_block);
  CHECK(head->sequence + 1 == report->next_sequence);
  CHECK(head->extras.local_free == 0);
}

TEST_CASE("a replay says what operators know") {
  const TestJournal journal = dirty_journal();
  SimulatedVolume bench(journal.image);
  REQUIRE(bench.run(replay_journal(journal.job(bench))));
  const std::vector<std::string> expected = {
      "jid=3: Looking at journal...",
      "jid=3: Journal head lookup took 0 ms",
      "jid=3: Replaying journal...0x37 to 0x4",
      "jid=3: Replayed 6 of 7 blocks",
      "jid=3: Found 1 revoke tags",
      "jid=3: Journal replayed in 0 ms [head: 0 ms, scan: 0 ms, write: 0 ms]",
      "jid=3: Done",
  };
  CHECK(bench.log.lines == expected);
}

TEST_CASE("a clean journal is left as it is") {
  TestJournal journal;
  journal.fill_as_mkfs(10);
  SimulatedVolume bench(journal.image);
  auto report = bench.run(replay_journal(journal.job(bench)));
  REQUIRE(report);
  CHECK_FALSE(report->replayed);
  CHECK(report->next_block == 11);
  CHECK(report->next_sequence == TestJournal::kJournalBlocks);
  CHECK(bench.device.counters().writes == 0);
  CHECK(bench.log.lines.back() == "jid=3: Done");
}

TEST_CASE("a second replay has nothing to do") {
  const TestJournal journal = dirty_journal();
  SimulatedVolume bench(journal.image);
  REQUIRE(bench.run(replay_journal(journal.job(bench))));
  const DiskImage once = bench.disk.contents();
  auto again = bench.run(replay_journal(journal.job(bench)));
  REQUIRE(again);
  CHECK_FALSE(again->replayed);
  CHECK(bench.disk.contents() == once);
}

TEST_CASE("a dry run finds the same and writes nothing") {
  const TestJournal journal = dirty_journal();
  SimulatedVolume bench(journal.image);
  ReplayJob job = journal.job(bench);
  job.dry_run = true;
  auto report = bench.run(replay_journal(std::move(job)));
  REQUIRE(report);
  CHECK_FALSE(report->replayed);
  CHECK(report->plan.blocks.size() == 7);
  CHECK(report->plan.replayed_blocks == 6);
  CHECK(bench.device.counters().writes == 0);
  CHECK(bench.device.counters().flushes == 0);
  CHECK(bench.log.lines.at(3) == "jid=3: Would replay 6 of 7 blocks");
}

TEST_CASE("a replay cut off anywhere is made good by the next one") {
  for (bool full : {false, true}) {
    const TestJournal journal = dirty_journal(full);
    SimulatedVolume whole(journal.image);
    REQUIRE(whole.run(replay_journal(journal.job(whole))));
    check_replayed(whole.disk.contents());
    const DiskImage expected = without_journal(whole.disk.contents(), journal);
    REQUIRE(whole.disk.event_count() > 10);
    for (std::uint64_t event = 0; event <= whole.disk.event_count(); ++event) {
      for (std::uint64_t fate = 0; fate < 12; ++fate) {
        const PowerCut cut{.event = event,
                           .unstable = fate == 0   ? PowerCut::Unstable::lost
                                       : fate == 1 ? PowerCut::Unstable::landed
                                                   : PowerCut::Unstable::random,
                           .seed = fate};
        INFO("full " << full << " event " << event << " fate " << fate);
        SimulatedVolume next(whole.disk.after(cut));
        auto report = next.run(replay_journal(journal.job(next)));
        if (!report) FAIL(report.error().describe());
        REQUIRE(without_journal(next.disk.contents(), journal) == expected);
      }
    }
  }
}

TEST_CASE("a log that fails its checks is not replayed in part") {
  TestJournal journal = dirty_journal();
  journal.log_metadata({{600, TestJournal::file_data(1)}});
  journal.log_header(55);
  SimulatedVolume bench(journal.image);
  auto report = bench.run(replay_journal(journal.job(bench)));
  REQUIRE_FALSE(report);
  CHECK(report.error().kind() == ErrorKind::corrupt);
  CHECK(report.error().message().starts_with("journal 3: journal block"));
  CHECK(bench.device.counters().writes == 0);
  CHECK(bench.log.lines.back().starts_with("jid=3: Failed: "));
}

TEST_CASE("a device that fails leaves the journal dirty") {
  const TestJournal journal = dirty_journal();
  for (std::uint64_t harmless = 0;; ++harmless) {
    SimulatedVolume bench(journal.image);
    bench.device.add_fault(
        {.operations = SimulatedFault::writes | SimulatedFault::flushes, .skip = harmless, .times = 1});
    auto report = bench.run(replay_journal(journal.job(bench)));
    if (report) {
      CHECK(harmless > 5);
      break;
    }
    INFO("after " << harmless << " operations");
    CHECK(report.error().code() == EIO);
    REQUIRE(bench.run(replay_journal(journal.job(bench))));
    check_replayed(bench.disk.contents());
  }
}

TEST_CASE("adjacent blocks are written in one go") {
  TestJournal journal;
  journal.fill_as_mkfs(1);
  journal.log_metadata({{502, TestJournal::metadata(1)},
                        {500, TestJournal::metadata(1)},
                        {503, TestJournal::metadata(1)},
                        {501, TestJournal::metadata(1)},
                        {600, TestJournal::metadata(1)}});
  journal.log_header(2);
  SimulatedVolume bench(journal.image);
  REQUIRE(bench.run(replay_journal(journal.job(bench))));
  CHECK(bench.device.counters().writes == 3);
  CHECK(bench.device.counters().flushes == 1);
  for (std::uint64_t place : {500, 501, 502, 503, 600})
    CHECK(TestJournal::read(bench.disk.contents(), BlockNo(place)) == TestJournal::metadata(1));
}

TEST_CASE("a journal that is about to be used is left in use where it was dirty, and empty") {
  const TestJournal journal = dirty_journal();
  SimulatedVolume bench(journal.image);
  ReplayJob job = journal.job(bench);
  job.afterwards = JournalUse::if_dirty;
  auto report = bench.run(replay_journal(std::move(job)));
  REQUIRE(report);
  CHECK(report->replayed);
  check_replayed(bench.disk.contents());
  auto head = bench.run(find_head(journal.access(bench)));
  REQUIRE(head);
  CHECK_FALSE(head->clean());
  CHECK(head->tail == head->block);
  // The kernel's replay would add these to the totals, and clear the node's file, in which they stand.
  CHECK(head->extras.statfs_inode == TestJournal::kLocalStatfs);
  CHECK(head->extras.local_free == -9);
  CHECK(head->extras.local_dinodes == 4);
  auto again = bench.run(replay_journal(journal.job(bench)));
  REQUIRE(again);
  CHECK(again->replayed);
  CHECK(again->plan.blocks.empty());
  check_replayed(bench.disk.contents());
}

TEST_CASE("a clean journal is left as it is, or put in use, as the caller wants it") {
  TestJournal journal;
  journal.fill_as_mkfs(10);
  for (const JournalUse use : {JournalUse::if_dirty, JournalUse::always}) {
    SimulatedVolume bench(journal.image);
    ReplayJob job = journal.job(bench);
    job.afterwards = use;
    bool asked = false;
    job.before_writing = [&asked]() -> Task<Result<>> {
      asked = true;
      co_return Result<>{};
    };
    auto report = bench.run(replay_journal(std::move(job)));
    REQUIRE(report);
    CHECK_FALSE(report->replayed);
    CHECK_FALSE(asked);
    auto head = bench.run(find_head(journal.access(bench)));
    REQUIRE(head);
    CHECK(head->clean() == (use == JournalUse::if_dirty));
    CHECK(journal.access(bench).forward(head->block, 1) == report->next_block);
    CHECK(head->sequence + 1 == report->next_sequence);
  }
}

TEST_CASE("a journal without any header needs no replay") {
  TestJournal journal;
  SimulatedVolume bench(journal.image);
  auto report = bench.run(replay_journal(journal.job(bench)));
  REQUIRE(report);
  CHECK_FALSE(report->replayed);
  CHECK(report->next_sequence == 1);
  CHECK(bench.device.counters().writes == 0);
}

TEST_CASE("a journal too short for a log is refused") {
  TestJournal journal;
  JournalMap tiny;
  tiny.append(BlockNo(200), 8);
  SimulatedVolume bench(journal.image);
  ReplayJob job{.journal = {bench.executor, bench.device, journal.geometry, tiny},
                .id = JournalId(3),
                .inode = TestJournal::kJournalInode,
                .volume_blocks = TestJournal::kVolumeBlocks,
                .journals = std::span(&tiny, 1),
                .local_statfs = {},
                .log = Logger(bench.log)};
  auto report = bench.run(replay_journal(std::move(job)));
  REQUIRE_FALSE(report);
  CHECK(report.error().kind() == ErrorKind::corrupt);
}
