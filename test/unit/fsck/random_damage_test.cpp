// Random damage to small volumes: never a crash or a hang, the second run finds nothing, and whoever was not hit keeps
// what he has. CORRAL_SEED chooses the first seed, CORRAL_SEEDS how many are tried for each block size.
#include <cstdlib>

#include "base/random.h"
#include "fsck/check.h"
#include "test/support/catch.h"
#include "test/support/environment.h"
#include "test/support/file_census.h"
#include "test/support/mounted_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

std::vector<std::byte> random_bytes(std::size_t count, Random& random) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random.next());
  return bytes;
}

void write_file(MountedVolume& mounted, BlockNo parent, const std::string& name, std::uint64_t offset,
                std::size_t bytes, Random& random) {
  NewNode node;
  node.mode = S_IFREG | 0644;
  const BlockNo inode = must(mounted.run(mounted.operations().create(parent, name, node, {}))).attributes.inode;
  if (bytes == 0) return;
  const std::vector<std::byte> contents = random_bytes(bytes, random);
  must(mounted.run(mounted.operations().write(inode, offset, contents, {})));
}

BlockNo make_directory(MountedVolume& mounted, BlockNo parent, const std::string& name) {
  NewNode node;
  node.mode = S_IFDIR | 0755;
  return must(mounted.run(mounted.operations().create(parent, name, node, {}))).attributes.inode;
}

/// A volume with some of everything that a checker meets.
DiskImage populated(std::uint32_t block_size) {
  SimulatedDisk disk(formatted_volume(block_size, 24));
  Random random(block_size);
  MountedVolume mounted(disk);
  const BlockNo root = mounted.filesystem->root();
  const BlockNo wide = make_directory(mounted, root, "wide");
  for (int i = 0; i < 150; ++i)
    write_file(mounted, wide, fmt::format("a file with a name of some length, number {}", i), 0, random.below(300),
               random);
  const BlockNo deep = make_directory(mounted, make_directory(mounted, make_directory(mounted, root, "a"), "b"), "c");
  for (int i = 0; i < 12; ++i)
    write_file(mounted, deep, fmt::format("large{}", i), random.below(4) << 16, 1 + random.below(200'000), random);
  write_file(mounted, root, "sparse", 3 << 20, 5000, random);
  for (int i = 0; i < 5; ++i) {
    NewNode link;
    link.mode = S_IFLNK | 0777;
    link.symlink_target = fmt::format("target {}", i);
    must(mounted.run(mounted.operations().create(root, fmt::format("link{}", i), link, {})));
  }
  for (int i = 0; i < 4; ++i) {
    write_file(mounted, root, fmt::format("attributes{}", i), 0, 100, random);
    std::vector<std::byte> value = random_bytes(static_cast<std::size_t>(i) * 1500 + 20, random);
    must(mounted.run(mounted.operations().set_xattr(mounted.find(fmt::format("attributes{}", i)), "user.test",
                                                    std::move(value), {}, {})));
  }
  mounted.unmount();
  return disk.contents();
}

struct Damage {
  std::set<std::uint64_t> blocks;
};

/// A block that is not all zeros: most of a small volume is empty.
std::uint64_t pick_block(const DiskImage& image, std::uint32_t block_size, Random& random) {
  std::vector<std::byte> bytes(block_size);
  for (int tries = 0; tries < 200; ++tries) {
    const std::uint64_t block = random.below(image.size_bytes() / block_size);
    image.read(block * block_size, bytes);
    // Log blocks are many and alike.
    const bool log = ondisk::has_meta_type(bytes, ondisk::MetaType::log_header);
    const bool empty = std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
    if (!empty && (!log || random.chance(1, 50))) return block;
  }
  return ondisk::kSuperblockOffsetBytes / block_size;
}

Damage do_damage(DiskImage& image, std::uint32_t block_size, Random& random) {
  Damage damage;
  for (std::uint64_t i = random.between(1, 6); i > 0; --i) {
    const std::uint64_t block = pick_block(image, block_size, random);
    damage.blocks.insert(block);
    std::vector<std::byte> bytes(block_size);
    image.read(block * block_size, bytes);
    switch (random.below(5)) {
      case 0:
        std::ranges::fill(bytes, std::byte{0});
        break;
      case 1:
        bytes = random_bytes(block_size, random);
        break;
      case 2:
        // Another block in its place.
        image.read(pick_block(image, block_size, random) * block_size, bytes);
        break;
      default:
        // Most fields are near the start.
        for (std::uint64_t n = random.between(1, 8); n > 0; --n)
          bytes[random.chance(1, 2) ? random.below(256) : random.below(block_size)] =
              static_cast<std::byte>(random.next());
    }
    image.write(block * block_size, bytes);
  }
  return damage;
}

void tell(const DiskImage& sound, const Census& census, std::uint32_t block_size, std::uint64_t seed) {
  INFO("replay with: CORRAL_SEED=" << seed << " CORRAL_SEEDS=1, block size " << block_size);
  Random random(seed);
  DiskImage image = sound;
  const Damage damage = do_damage(image, block_size, random);
  SimulatedVolume bench(image);
  const CheckedImage repaired = check_image(bench, true);
  INFO("found: " << words_of(repaired));
  REQUIRE(repaired.outcome);
  CHECK(repaired.report.remaining == 0);
  const CheckedImage again = check_image(bench, false);
  CHECK(words_of(again) == "");
  auto loss = bench.run(find_loss(bench.device, census, damage.blocks));
  REQUIRE(loss);
  CHECK(*loss == "");
}

}  // namespace

TEST_CASE("random damage is repaired in one run, and hurts nobody else") {
  const std::uint64_t first = number_from_environment("CORRAL_SEED", 1);
  const std::uint64_t seeds = number_from_environment("CORRAL_SEEDS", 60);
  for (const std::uint32_t block_size : {4096u, 1024u, 512u}) {
    const DiskImage sound = populated(block_size);
    SimulatedVolume bench(sound);
    CHECK(words_of(check_image(bench, false)) == "");
    const Census census = must(bench.run(take_census(bench.executor, bench.device)));
    REQUIRE(census.size() > 170);
    for (std::uint64_t seed = first; seed < first + seeds; ++seed)
      tell(sound, census, block_size, seed);
  }
}

TEST_CASE("a repair that is cut off ends the same in a further run") {
  const DiskImage sound = populated(1024);
  SimulatedVolume bench(sound);
  const Census census = must(bench.run(take_census(bench.executor, bench.device)));
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    Random random(seed);
    DiskImage image = sound;
    const Damage damage = do_damage(image, 1024, random);
    SimulatedVolume whole(image);
    const CheckedImage repaired = check_image(whole, true);
    REQUIRE(repaired.outcome);
    for (std::uint64_t i = 0; i < 6; ++i) {
      const PowerCut cut{.event = random.below(whole.disk.event_count() + 1), .seed = random.next()};
      INFO("seed " << seed << ", event " << cut.event << ", fate " << cut.seed);
      SimulatedVolume next(whole.disk.after(cut));
      const CheckedImage further = check_image(next, true);
      REQUIRE(further.outcome);
      CHECK(further.report.remaining == 0);
      CHECK(further.report.inodes == repaired.report.inodes);
      CHECK(words_of(check_image(next, false)) == "");
      CHECK(must(next.run(find_loss(next.device, census, damage.blocks))) == "");
    }
  }
}
