// A whole small journal: the input is a script that writes transactions, then changes bytes of the log anywhere.
// Whatever it makes, a replay ends, writes only where it may, and leaves nothing for a second one.
#include "base/check.h"
#include "test/support/test_journal.h"

using namespace corral;
using corral::test::SimulatedVolume;
using corral::test::TestJournal;

namespace {

class Script {
 public:
  Script(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  std::uint8_t byte() { return empty() ? std::uint8_t{0} : data_[at_++]; }
  /// Mostly one of few places, so that entries and revokes meet; now and then one that must be refused.
  std::uint64_t place() {
    const std::uint8_t choice = byte();
    if (choice < 240) return 600 + choice % 16;
    const std::uint64_t odd[] = {0, 64, 100, 200, 300, TestJournal::kVolumeBlocks, ~std::uint64_t{0}};
    return odd[choice % std::size(odd)];
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

void change_bytes(TestJournal& journal, Script& script) {
  const std::uint32_t place = script.byte() % TestJournal::kJournalBlocks;
  TestJournal::Block block = journal.log_block(place);
  const std::size_t offset = script.byte() % 136;
  const std::uint8_t count = script.byte();
  for (std::size_t i = 0; i < count % 8; ++i)
    block[offset + i] = static_cast<std::byte>(script.byte());
  if (count >= 128) TestJournal::seal(block);
  journal.put_log_block(place, block);
}

void run_script(TestJournal& journal, Script& script) {
  while (!script.empty()) {
    switch (script.byte() % 6) {
      case 0:
        journal.log_metadata({{script.place(), TestJournal::metadata(1)}, {script.place(), TestJournal::metadata(2)}});
        break;
      case 1:
        journal.log_data({{script.place(), TestJournal::data_that_looks_like_metadata(script.byte())}});
        break;
      case 2:
        journal.log_revokes(std::vector<std::uint64_t>(std::size_t{script.byte()} * 2 % 300 + 1, script.place()));
        break;
      case 3: {
        const std::uint32_t tail = script.byte() % (TestJournal::kJournalBlocks + 1);
        const std::uint8_t flags = script.byte();
        journal.log_header(tail, flags % 8 == 0 ? ondisk::kLogHeadUnmount : 0, {0, flags, 0});
        break;
      }
      default:
        change_bytes(journal, script);
    }
  }
}

/// Made once: the checksums of all its headers take longer than a run. Logs soon go round its end.
const TestJournal& fresh_journal() {
  static const TestJournal journal = [] {
    TestJournal made;
    made.fill_as_mkfs(50);
    return made;
  }();
  return journal;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, std::min<std::size_t>(size, 512));
  TestJournal journal = fresh_journal();
  run_script(journal, script);

  SimulatedVolume bench(journal.image);
  auto first = bench.run(replay_journal(journal.job(bench)));
  if (!first) {
    CHECK_INVARIANT(first.error().kind() == ErrorKind::corrupt && bench.device.counters().writes == 0);
    return 0;
  }
  for (const DiskEvent& event : bench.disk.events()) {
    if (event.kind != DiskEvent::Kind::begin || event.operation->kind != DiskOperation::Kind::write) continue;
    CHECK_INVARIANT(event.operation->offset_bytes > 64 * TestJournal::kBlockBytes);
  }
  if (!first->replayed) return 0;
  auto second = bench.run(replay_journal(journal.job(bench)));
  CHECK_INVARIANT(second && !second->replayed);
  return 0;
}
