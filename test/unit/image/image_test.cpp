// Saving metadata and restoring it: what the checkers say of the volume that comes out is what they said before.
#include <cstring>

#include <fmt/format.h>

#include "cluster/area.h"
#include "ondisk/checksum.h"
#include "test/support/catch.h"
#include "test/support/formatted_volume.h"
#include "test/support/fsck_corral.h"
#include "test/support/golden_cases.h"
#include "test/support/golden_disk.h"
#include "test/support/image_bytes.h"
#include "test/support/must.h"
#include "test/support/simulated_volume.h"
#include "tools/image/restore_image.h"
#include "tools/image/save_image.h"

using namespace corral;
using namespace corral::test;
using namespace corral::image;

namespace {

struct Saved {
  std::vector<std::byte> bytes;
  SaveReport report;
};

Saved save(const DiskImage& volume, SaveOptions options = {}) {
  SimulatedVolume bench(volume);
  Saved saved;
  saved.report = must(bench.run(save_metadata(bench.executor, bench.device, options, [&](std::span<const std::byte> b) {
    saved.bytes.insert(saved.bytes.end(), b.begin(), b.end());
    return Result<>();
  })));
  CHECK((bench.disk.contents() == volume));
  return saved;
}

Result<DiskImage> restore(const std::vector<std::byte>& bytes, DiskImage onto, bool empty) {
  SimulatedVolume bench(std::move(onto));
  ImageReader reader = reader_of(bytes);
  TRY(const Header header, reader.begin());
  const Result<> done = bench.run(restore_metadata(bench.device, reader, header, {.empty_device = empty}));
  if (!done) return std::unexpected(done.error());
  return bench.disk.contents();
}

DiskImage there_and_back(const DiskImage& volume, SaveOptions options = {}) {
  return must(restore(save(volume, options).bytes, DiskImage(volume.size_bytes()), true));
}

/// Whether the bytes stand anywhere on the disk.
bool holds(const DiskImage& image, std::string_view wanted) {
  std::vector<std::byte> bytes(image.size_bytes());
  image.read(0, bytes);
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return all.find(wanted) != std::string_view::npos;
}

}  // namespace

TEST_CASE("a new volume comes back as it was, but for the secret", "[image]") {
  for (const std::uint32_t block_size : {512u, 1024u, 4096u}) {
    mkfs::FormatOptions options;
    options.block_size = block_size;
    options.journal_mebibytes = 8;
    options.journals = 2;
    options.lock_table = "my:volume";
    options.cluster.cluster = {1, 2, 3};
    options.cluster.secret.fill(0xA7);
    const DiskImage volume = formatted_volume(options, 128);
    CHECK(fsck_corral(volume).empty());
    const Saved saved = save(volume);
    CHECK(saved.report.findings == 0);
    CHECK(saved.report.unreadable == 0);
    CHECK(saved.report.block_size == block_size);
    CHECK(saved.bytes.size() == saved.report.image_bytes);
    DiskImage restored = must(restore(saved.bytes, DiskImage(volume.size_bytes()), true));
    CHECK(fsck_corral(restored).empty());

    const std::string secret(32, '\xA7');
    CHECK(holds(volume, secret));
    CHECK_FALSE(holds(restored, secret));
    SimulatedVolume bench(restored);
    const VolumeReader reader = must(bench.run(VolumeReader::open(bench.device)));
    const auto area = must(bench.run(cluster::ClusterArea::find(reader)));
    const cluster::Header header = must(bench.run(area.read_header()));
    CHECK(header.cluster == options.cluster.cluster);
    CHECK(header.secret == cluster::Secret{});
    // With the secret put back nothing is missing: all of an empty volume is metadata.
    DiskImage completed = restored;
    std::vector<std::byte> both(2 * cluster::kRecordBytes);
    volume.read(area.offset_bytes(), both);
    completed.write(area.offset_bytes(), both);
    CHECK((completed == volume));
  }
}

TEST_CASE("a disk that held another volume shows the restored one", "[image]") {
  const DiskImage volume = formatted_volume(4096, 64);
  DiskImage other(volume.size_bytes() + (16 << 20));
  other.fill(0, other.size_bytes(), std::byte{0x5A});
  const DiskImage restored = must(restore(save(volume).bytes, other, false));
  SimulatedVolume bench(restored);
  must(bench.run(VolumeReader::open(bench.device)));
  CHECK(fsck_corral(restored).empty());
}

TEST_CASE("a damaged image leaves no volume on the disk", "[image]") {
  const DiskImage volume = formatted_volume(4096, 64);
  const Saved saved = save(volume);
  std::vector<std::byte> cut = saved.bytes;
  cut.resize(cut.size() - 10);
  SimulatedVolume bench(volume);
  ImageReader reader = reader_of(cut);
  const Header header = must(reader.begin());
  const Result<> done = bench.run(restore_metadata(bench.device, reader, header, {}));
  REQUIRE_FALSE(done);
  CHECK(done.error().kind() == ErrorKind::corrupt);
  CHECK_FALSE(bench.run(VolumeReader::open(bench.device)));
}

TEST_CASE("a disk that is too small is refused before anything is written", "[image]") {
  const DiskImage volume = formatted_volume(4096, 64);
  const Saved saved = save(volume);
  DiskImage small(volume.size_bytes() - 4096);
  auto restored = restore(saved.bytes, small, false);
  REQUIRE_FALSE(restored);
  CHECK(restored.error().code() == EINVAL);
}

TEST_CASE("places that cannot be read are left out and counted", "[image]") {
  const DiskImage volume = formatted_volume(4096, 64);
  SimulatedVolume bench(volume);
  const VolumeReader reader = must(bench.run(VolumeReader::open(bench.device)));
  const BlockNo root(reader.superblock().root_dir.addr);
  bench.device.add_fault(
      {.operations = SimulatedFault::reads, .begin_bytes = root.value * 4096, .end_bytes = root.value * 4096 + 512});
  std::vector<std::byte> bytes;
  const SaveReport report =
      must(bench.run(save_metadata(bench.executor, bench.device, {}, [&](std::span<const std::byte> b) {
        bytes.insert(bytes.end(), b.begin(), b.end());
        return Result<>();
      })));
  CHECK(report.unreadable == 1);
  const DiskImage restored = must(restore(bytes, DiskImage(volume.size_bytes()), true));
  CHECK_FALSE(fsck_corral(restored).empty());
}

TEST_CASE("golden volumes: the checkers say of the image what they say of the volume", "[golden]") {
  for (const std::string name :
       {"basic-1k/volume.img", "basic-4k/volume.img", "quota/volume.img", "dirty-journal-create/dirty.img",
        "dirty-journal-revoke/dirty.img", "dirty-journal-jdata/dirty.img", "dirty-journal-wrap/dirty.img",
        "dirty-journal-killed/dirty.img", "dirty-journal-cluster/dirty.img", "quota-pending/dirty.img"}) {
    const auto volume = golden_disk(name);
    if (!volume) return;
    INFO(name);
    for (const bool keep : {false, true}) {
      const DiskImage restored = there_and_back(*volume, {.filter = {.keep_contents = keep, .blank = !keep}});
      CHECK(fsck_corral(restored) == fsck_corral(*volume));
    }
  }
}

TEST_CASE("golden damages: the checkers say of the image what they say of the volume", "[golden]") {
  for (const auto& [list, base] :
       {std::pair<std::string, std::string>{"corrupt/cases.jsonl", "corrupt/base.img"},
        std::pair<std::string, std::string>{"corrupt/journal-cases.jsonl", "dirty-journal-create/dirty.img"}}) {
    for (const nlohmann::json& damage : golden_cases(list)) {
      INFO(damage.at("name").get<std::string>());
      const DiskImage volume = damaged(*golden_disk(base), damage);
      CHECK(fsck_corral(there_and_back(volume)) == fsck_corral(volume));
    }
  }
}

TEST_CASE("what users keep in metadata stays at home", "[image]") {
  constexpr std::uint32_t kBlock = 4096;
  std::vector<std::byte> block(kBlock);
  auto& dinode = ondisk::view<ondisk::Dinode>(block);
  const auto behind = [&] { return std::span(block).subspan(sizeof(ondisk::Dinode)); };
  const auto fill_with = [&](std::uint32_t mode, std::uint32_t flags) {
    std::ranges::fill(block, std::byte{'s'});
    dinode = {};
    dinode.header.set(ondisk::MetaType::dinode);
    dinode.num.addr = 77;
    dinode.mode = mode;
    dinode.flags = flags;
    dinode.size = 100;
  };
  const auto kept = [&] { return std::ranges::count(behind(), std::byte{'s'}); };
  constexpr std::uint32_t kFile = 0100644;
  constexpr std::uint32_t kLink = 0120777;
  constexpr std::uint32_t kDirectory = 0040755;
  constexpr auto kAll = static_cast<std::ptrdiff_t>(kBlock - sizeof(ondisk::Dinode));

  fill_with(kFile, 0);
  filter_metadata(block, BlockNo(77), false, {});
  CHECK(kept() == 0);
  fill_with(kFile, 0);
  filter_metadata(block, BlockNo(77), false, {.keep_contents = true});
  CHECK(kept() == kAll);
  fill_with(kFile, ondisk::kDinodeSystem);
  filter_metadata(block, BlockNo(77), false, {});
  CHECK(kept() == kAll);
  fill_with(kFile, 0);
  filter_metadata(block, BlockNo(77), true, {});
  CHECK(kept() == kAll);
  fill_with(kDirectory, 0);
  filter_metadata(block, BlockNo(77), false, {.blank = true});
  CHECK(kept() == kAll);
  fill_with(kLink, 0);
  filter_metadata(block, BlockNo(77), false, {});
  CHECK(kept() == kAll);
  filter_metadata(block, BlockNo(77), false, {.blank = true});
  CHECK(kept() == kAll - 100);
  // A tree's pointers are no contents.
  fill_with(kFile, 0);
  dinode.height = std::uint16_t{1};
  filter_metadata(block, BlockNo(77), false, {});
  CHECK(kept() == kAll);
  // Damage does not give contents away: the type, the mode.
  fill_with(kFile, 0);
  dinode.header.type = 99u;
  filter_metadata(block, BlockNo(77), false, {});
  CHECK(kept() == 0);
  fill_with(0, 0);
  filter_metadata(block, BlockNo(77), false, {});
  CHECK(kept() == 0);
}

TEST_CASE("the secret is taken out wherever it stands, and what was damaged stays damaged", "[image]") {
  cluster::Header header{.generation = 3, .cluster = {9}, .settings = {}};
  header.secret.fill(0x77);
  std::vector<std::byte> record(cluster::kRecordBytes);
  cluster::encode_header(header, record);
  std::vector<std::byte> damaged = record;
  damaged[2000] = std::byte{1};
  remove_secret(record);
  const cluster::Header bare = must(cluster::decode_header(record));
  CHECK(bare.secret == cluster::Secret{});
  CHECK(bare.generation == 3);
  remove_secret(damaged);
  CHECK_FALSE(cluster::decode_header(damaged));
  CHECK(std::ranges::count(damaged, std::byte{0x77}) == 0);
  // Of small blocks the record has several, and only the first holds it.
  cluster::encode_header(header, record);
  for (std::size_t at = 0; at < record.size(); at += 512)
    remove_secret(std::span(record).subspan(at, 512));
  CHECK(must(cluster::decode_header(record)).secret == cluster::Secret{});
}

TEST_CASE("what files hold is in no image", "[golden]") {
  const auto volume = golden_disk("basic-4k/volume.img");
  if (!volume) return;
  // All data blocks of all files with a tree, and what stands behind the dinodes of short ones.
  const DiskImage restored = there_and_back(*volume);
  std::vector<std::byte> before(4096);
  std::vector<std::byte> after(4096);
  std::uint64_t contents = 0;
  for (std::uint64_t at = 0; at < volume->size_bytes(); at += 4096) {
    volume->read(at, before);
    restored.read(at, after);
    const auto& dinode = ondisk::view<ondisk::Dinode>(before);
    const bool short_file = ondisk::has_meta_type(before, ondisk::MetaType::dinode) && dinode.height == 0 &&
                            (dinode.mode & 0170000) == 0100000 && (dinode.flags & ondisk::kDinodeSystem) == 0 &&
                            dinode.num.addr == at / 4096;
    if (!short_file) continue;
    contents += dinode.size > 0 ? 1 : 0;
    CHECK(std::ranges::all_of(std::span(after).subspan(sizeof(ondisk::Dinode)),
                              [](std::byte byte) { return byte == std::byte{0}; }));
  }
  CHECK(contents > 10);

  SaveOptions keep;
  keep.filter.keep_contents = true;
  CHECK(save(*volume, keep).report.blocks == save(*volume).report.blocks);
}
