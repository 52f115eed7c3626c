#include "journal/in_place_writer.h"

#include <algorithm>

#include "base/random.h"
#include "test/support/catch.h"
#include "test/support/simulated_volume.h"

using namespace corral;
using namespace corral::test;

TEST_CASE("a log larger than the writer's memory goes to its places in disk order") {
  constexpr std::uint32_t kBlockBytes = 4096;
  constexpr std::uint32_t kLogged = 2 * kInPlaceBatchBytes / kBlockBytes + 100;
  constexpr std::uint32_t kJournalStart = 100;
  constexpr std::uint64_t kPlacesStart = 40000;
  JournalMap map;
  map.append(BlockNo(kJournalStart), kLogged + 50);

  // Every third place is not logged, so runs are two blocks long.
  std::vector<LoggedBlock> plan;
  for (std::uint32_t i = 0; i < kLogged; ++i)
    plan.push_back({.place = BlockNo(kPlacesStart + i / 2 * 3 + i % 2), .log_offset = i});
  Random random(7);
  for (std::uint32_t i = kLogged - 1; i > 0; --i)
    std::swap(plan[i].log_offset, plan[random.below(i + 1)].log_offset);
  plan[5].fate = LoggedBlock::Fate::revoked;
  plan[6].escaped = true;

  DiskImage image((kPlacesStart + 2 * kLogged) * kBlockBytes);
  const std::uint32_t tail = kLogged;  // the log goes round the journal's end
  for (const LoggedBlock& block : plan) {
    std::uint32_t journal_block = (tail + block.log_offset) % map.size_blocks();
    std::vector<std::byte> contents(8);
    std::memcpy(contents.data() + 4, &block.log_offset, 4);
    image.write(std::uint64_t{kJournalStart + journal_block} * kBlockBytes, contents);
  }

  SimulatedVolume bench(std::move(image));
  const ondisk::Geometry geometry(kBlockBytes);
  REQUIRE(bench.run(write_in_place({bench.executor, bench.device, geometry, map}, tail, plan)));
  for (const LoggedBlock& block : plan) {
    std::array<std::byte, 8> found{};
    bench.disk.contents().read(block.place.value * kBlockBytes, found);
    std::uint32_t offset = 0;
    std::memcpy(&offset, found.data() + 4, 4);
    const std::uint32_t first = ondisk::view<ondisk::be32>(found);
    if (block.fate == LoggedBlock::Fate::revoked) {
      REQUIRE(offset == 0);
    } else {
      REQUIRE(offset == block.log_offset);
      REQUIRE(first == (block.escaped ? ondisk::kMagic : 0));
    }
  }
  std::uint64_t last = 0;
  for (const DiskEvent& event : bench.disk.events()) {
    if (event.kind != DiskEvent::Kind::begin) continue;
    REQUIRE(event.operation->offset_bytes >= last);
    last = event.operation->offset_bytes;
  }
  CHECK(bench.device.counters().writes <= kLogged / 2 + 2);
}
