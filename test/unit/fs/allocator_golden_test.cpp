// The allocator's books on whole volumes: those that the kernel wrote, and those that fsck.gfs2 judges.
#include <nlohmann/json.hpp>

#include "base/aligned_buffer.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/golden_cases.h"
#include "test/support/golden_disk.h"
#include "test/support/mounted_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

MountOptions local_mount(QuotaMode quota) {
  MountOptions options;
  options.quota = quota;
  options.lock_protocol = "lock_nolock";
  return options;
}

/// Compares every record that the list says the quota file holds; returns how many there were.
int check_quota_file(MountedVolume& volume, const std::string& list) {
  int records = 0;
  for (const nlohmann::json& line : golden_cases(list)) {
    if (line.at("from") != "quota file" || !line.contains("id")) continue;
    const auto kind = line.at("kind") == "user" ? QuotaKind::user : QuotaKind::group;
    const auto id = line.at("id").get<std::uint32_t>();
    const QuotaFigures figures = must(volume.run(volume.filesystem->allocator().quota_of(kind, id)));
    INFO(line.dump());
    CHECK(figures.limit == line.at("limit_blocks").get<std::uint64_t>());
    CHECK(figures.warn == line.at("warn_blocks").get<std::uint64_t>());
    CHECK(figures.used == line.at("value_blocks").get<std::int64_t>());
    ++records;
  }
  return records;
}

void write_file(MountedVolume& volume, const std::string& name, std::size_t bytes, Caller caller) {
  NewNode node;
  node.mode = S_IFREG | 0644;
  const Entry entry = must(volume.run(volume.operations().create(volume.filesystem->root(), name, node, caller)));
  AlignedBuffer data(bytes);
  const auto written =
      must(volume.run(volume.operations().write(entry.attributes.inode, 0, std::as_const(data).span(), {})));
  CHECK(written == bytes);
}

Task<int> wait_for_reclaims(Filesystem& filesystem) {
  co_await filesystem.reclaim_finished();
  co_return 0;
}

void remove_file(MountedVolume& volume, const std::string& name) {
  const BlockNo inode = volume.find(name);
  must(volume.run(volume.operations().unlink(volume.filesystem->root(), name)));
  volume.operations().forget(inode, ~std::uint64_t{0} >> 1);
  volume.run(wait_for_reclaims(*volume.filesystem));
}

Task<Result<>> note_block(std::vector<BlockNo>& blocks, BlockNo block) {
  blocks.push_back(block);
  co_return Result<>{};
}

std::int64_t used_by(MountedVolume& volume, QuotaKind kind, std::uint32_t id) {
  return must(volume.run(volume.filesystem->allocator().quota_of(kind, id))).used;
}

}  // namespace

TEST_CASE("allocator: the kernel's quota file is read, added to and left as it was", "[fs][allocator][golden]") {
  const auto image = golden_disk("quota/volume.img");
  if (!image) return;
  SimulatedDisk disk(*image);
  constexpr std::uint32_t kNewUser = 3'000'000'000;
  {
    MountedVolume volume(disk, local_mount(QuotaMode::account));
    CHECK(check_quota_file(volume, "quota/quota.jsonl") > 10);
    write_file(volume, "ours", 100'000, {.uid = kNewUser, .gid = 1000});
    volume.unmount();
  }
  {
    MountedVolume volume(disk, local_mount(QuotaMode::account));
    // 25 blocks of data, the dinode, no indirect block.
    CHECK(used_by(volume, QuotaKind::user, kNewUser) == 26);
    CHECK(used_by(volume, QuotaKind::group, 1000) == 4208 / 8 + 26);
    remove_file(volume, "ours");
    CHECK(used_by(volume, QuotaKind::user, kNewUser) == 0);
    must(volume.run(volume.filesystem->allocator().sync_quota()));
    check_quota_file(volume, "quota/quota.jsonl");
    volume.unmount();
  }
  CHECK(fsck_gfs2(disk.contents()) == "");
}

TEST_CASE("allocator: quota changes that a crash left beside the quota file arrive there", "[fs][allocator][golden]") {
  const auto image = golden_disk("quota-pending/dirty.img");
  if (!image) return;
  SimulatedDisk disk(*image);
  {
    MountedVolume volume(disk, local_mount(QuotaMode::account));
    CHECK(std::ranges::any_of(volume.log.lines,
                              [](const std::string& line) { return line.ends_with("found 12 quota changes"); }));
    volume.unmount();
  }
  {
    MountedVolume volume(disk, local_mount(QuotaMode::off));
    CHECK(check_quota_file(volume, "quota-pending/after-replay.quota.jsonl") > 5);
    volume.unmount();
  }
  CHECK(fsck_gfs2(disk.contents()) == "");
}

TEST_CASE("allocator: the kernel's volumes count as their bitmaps do", "[fs][allocator][golden]") {
  for (const char* name : {"basic-4k/volume.img", "basic-1k/volume.img", "quota/volume.img"}) {
    const auto image = golden_disk(name);
    if (!image) return;
    INFO(name);
    SimulatedDisk disk(*image);
    MountedVolume volume(disk, local_mount(QuotaMode::off));
    // Every group is loaded, which compares its header with its bitmap.
    std::vector<BlockNo> unlinked;
    must(volume.run(volume.filesystem->allocator().for_each_unlinked(
        [&unlinked](BlockNo block) { return note_block(unlinked, block); })));
    CHECK(unlinked.empty());
    volume.unmount();
  }
}

TEST_CASE("allocator: a volume filled to the last block and emptied is as it was", "[fs][allocator]") {
  const std::uint32_t block_size = GENERATE(512u, 4096u);
  SimulatedDisk disk(formatted_volume(block_size, 48));
  {
    MountedVolume volume(disk, local_mount(QuotaMode::account));
    const std::uint64_t free = volume.free_blocks();
    const std::uint32_t user = 70'000;
    NewNode node;
    node.mode = S_IFREG | 0644;
    const Caller caller{.uid = user, .gid = user};
    const BlockNo inode =
        must(volume.run(volume.operations().create(volume.filesystem->root(), "large", node, caller))).attributes.inode;
    AlignedBuffer data(1u << 20);
    std::uint64_t offset = 0;
    for (;;) {
      const auto written = volume.run(volume.operations().write(inode, offset, std::as_const(data).span(), {}));
      if (!written) {
        CHECK(written.error().code() == ENOSPC);
        break;
      }
      offset += *written;
    }
    CHECK(volume.free_blocks() == 0);
    const auto more = volume.run(volume.operations().create(volume.filesystem->root(), "more", node, caller));
    CHECK((!more && more.error().code() == ENOSPC));
    CHECK(used_by(volume, QuotaKind::user, user) == static_cast<std::int64_t>(free));
    remove_file(volume, "large");
    CHECK(volume.free_blocks() == free);
    CHECK(used_by(volume, QuotaKind::group, user) == 0);
    volume.unmount();
  }
  CHECK(fsck_gfs2(disk.contents()) == "");
}
