#include "tools/adopt/adopt.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <dirent.h>
#include <sys/stat.h>

#include "cluster/observation.h"
#include "fs/dirent_block.h"
#include "offline/offline_transaction.h"
#include "tools/adopt/group_blocks.h"
#include "tools/adopt/superblock.h"
#include "tools/mkfs/file_tree.h"
#include "tools/mkfs/options.h"

namespace corral {

using namespace ondisk;
using cluster::ClusterArea;
using mkfs::FileTree;

namespace {

FileTree area_tree(const VolumeReader& volume, BlockNo dinode) {
  const Geometry& geometry = volume.geometry();
  return {geometry, dinode, geometry.blocks_for(cluster::area_file_bytes(geometry.block_size()))};
}

Dinode area_dinode(const VolumeReader& volume, const FileTree& tree, std::uint64_t formal_ino, WallTime now) {
  Dinode dinode{};
  dinode.header.set(MetaType::dinode);
  dinode.num = {.formal_ino = formal_ino, .addr = tree.dinode().value};
  dinode.mode = static_cast<std::uint32_t>(S_IFREG | 0600);
  dinode.nlink = 1u;
  dinode.size = cluster::area_file_bytes(volume.geometry().block_size());
  dinode.blocks = tree.blocks();
  dinode.atime = dinode.mtime = dinode.ctime = static_cast<std::uint64_t>(now.seconds);
  dinode.atime_nanoseconds = dinode.mtime_nanoseconds = dinode.ctime_nanoseconds = now.nanoseconds;
  dinode.goal_meta = dinode.goal_data = tree.dinode().value;
  dinode.flags = kDinodeSystem;
  dinode.height = static_cast<std::uint16_t>(tree.height());
  return dinode;
}

/// Writes the file's blocks, which are free and to which nothing points yet.
Task<Result<>> write_area_file(const VolumeReader& volume, const FileTree& tree, Dinode dinode,
                               cluster::Header header) {
  const Geometry& geometry = volume.geometry();
  const std::size_t block_size = geometry.block_size();
  AlignedBuffer file(tree.blocks() * block_size);
  auto block = [&](BlockNo address) { return file.span().subspan((address - tree.dinode()) * block_size, block_size); };
  view<Dinode>(block(tree.dinode())) = dinode;
  tree.fill_dinode_pointers(block(tree.dinode()));
  for (BlockNo address = tree.dinode() + 1; address < tree.first_data(); ++address)
    tree.fill_indirect(address, block(address));
  const std::uint64_t file_begin = geometry.offset_bytes(tree.dinode());
  const std::uint64_t area_begin = cluster::area_offset_in(geometry.offset_bytes(tree.first_data()));
  const AlignedBuffer contents = ClusterArea::new_contents(header);
  std::ranges::copy(contents.span(), file.span().subspan(area_begin - file_begin).begin());
  CO_TRY_VOID(co_await volume.device().write(file_begin, file.span(), WriteMode::cached));
  co_return co_await volume.device().flush();
}

/// The block of the directory that holds the name, or (`to_insert`) has room for it.
Task<Result<BlockNo>> find_dirent_block(const VolumeReader& volume, const OfflineInode& directory, std::string name,
                                        bool to_insert) {
  const HashedName hashed(name);
  auto suits = [to_insert](const DirentScan& scan) { return to_insert ? scan.has_room : scan.found != 0; };
  const std::unexpected<Error> missing =
      fail(ENOSPC, "{}: the master directory has no room for another name", volume.device().name());
  if (!directory.is_hashed_directory()) {
    CO_TRY(DirentScan scan, scan_dirents(directory.block(), directory.number(), hashed));
    if (suits(scan)) co_return directory.number();
    co_return missing;
  }
  const std::uint32_t depth = directory.dinode().depth;
  CO_TRY(std::vector<std::byte> table, co_await volume.read_contents(directory, std::uint64_t{8} << kDirMaxDepth));
  BlockNo leaf(pointers(table, 0)[depth == 0 ? 0 : hashed.hash >> (32 - depth)]);
  for (std::uint64_t left = volume.volume_blocks(); leaf && left > 0; --left) {
    CO_TRY_VOID(check_pointer(leaf, directory.number(), "leaf", volume.geometry(), volume.volume_blocks()));
    CO_TRY(AlignedBuffer block, co_await volume.read_block(leaf));
    CO_TRY_VOID(check_leaf(block.span(), leaf, depth));
    CO_TRY(DirentScan scan, scan_dirents(block.span(), leaf, hashed));
    if (suits(scan)) co_return leaf;
    leaf = BlockNo(view<Leaf>(block.span()).next);
  }
  co_return missing;
}

/// Adds (`entry`) or removes (none) the area's name in the master directory.
Task<Result<>> change_master(OfflineTransaction& transaction, std::optional<DirectoryEntry> entry) {
  const VolumeReader& volume = transaction.volume();
  const HashedName name(cluster::kAreaFileName);
  CO_TRY(OfflineInode master, co_await volume.system_file(""));
  CO_TRY(BlockNo place, co_await find_dirent_block(volume, master, std::string(name.name), entry.has_value()));
  CO_TRY(std::span<std::byte> dirents, co_await transaction.change(place));
  if (entry) {
    insert_dirent(dirents, name, *entry);
  } else {
    remove_dirent(dirents, name);
  }
  CO_TRY(std::span<std::byte> dinode, co_await transaction.change(master.number()));
  auto& entries = view<Dinode>(dinode).entries;
  entries = entry ? entries + 1 : entries - 1;
  co_return Result<>{};
}

/// The next free inode number, taken.
Task<Result<std::uint64_t>> take_formal_ino(OfflineTransaction& transaction) {
  CO_TRY(OfflineInode inum, co_await transaction.volume().system_file("inum"));
  if (inum.dinode().height != 0 || inum.size_bytes() != sizeof(be64))
    co_return fail_corrupt("inode {}: inum file of {} bytes, expected {}", inum.number().value, inum.size_bytes(),
                           sizeof(be64));
  CO_TRY(std::span<std::byte> block, co_await transaction.change(inum.number()));
  auto& next = view<be64>(block, sizeof(Dinode));
  const std::uint64_t taken = next;
  next = taken + 1;
  co_return taken;
}

Task<Result<>> change_totals(OfflineTransaction& transaction, std::int64_t free_blocks, std::int64_t dinodes) {
  CO_TRY(OfflineInode statfs, co_await transaction.volume().system_file("statfs"));
  if (statfs.dinode().height != 0 || statfs.size_bytes() < sizeof(StatfsChange))
    co_return fail_corrupt("inode {}: statfs file of {} bytes, expected {}", statfs.number().value, statfs.size_bytes(),
                           sizeof(StatfsChange));
  CO_TRY(std::span<std::byte> block, co_await transaction.change(statfs.number()));
  auto& totals = view<StatfsChange>(block, sizeof(Dinode));
  totals.free = totals.free + static_cast<std::uint64_t>(free_blocks);
  totals.dinodes = totals.dinodes + static_cast<std::uint64_t>(dinodes);
  co_return Result<>{};
}

Task<Result<>> add_area(AdoptionContext context, const VolumeReader& volume, cluster::Header header) {
  const auto blocks = static_cast<std::uint32_t>(area_tree(volume, BlockNo(1)).blocks());
  CO_TRY(BlockNo first, co_await find_free_run(volume, blocks));
  OfflineTransaction transaction(volume);
  CO_TRY(std::uint64_t formal_ino, co_await take_formal_ino(transaction));
  const FileTree tree = area_tree(volume, first);
  CO_TRY_VOID(co_await change_master(transaction,
                                     DirectoryEntry{.address = first, .formal_number = formal_ino, .type = DT_REG}));
  CO_TRY_VOID(co_await mark_run(transaction, first, blocks, true));
  CO_TRY_VOID(co_await change_totals(transaction, -static_cast<std::int64_t>(blocks), 1));
  CO_TRY_VOID(co_await write_area_file(volume, tree, area_dinode(volume, tree, formal_ino, context.now), header));
  co_return co_await transaction.commit(context.executor, context.now, context.log);
}

Task<Result<>> remove_area(AdoptionContext context, const VolumeReader& volume) {
  CO_TRY(OfflineInode inode, co_await volume.system_file(std::string(cluster::kAreaFileName)));
  const FileTree tree = area_tree(volume, inode.number());
  AlignedBuffer expected(volume.geometry().block_size());
  tree.fill_dinode_pointers(expected.span());
  const bool as_made =
      inode.dinode().blocks == tree.blocks() && inode.dinode().height == tree.height() && inode.dinode().eattr == 0 &&
      std::ranges::equal(inode.block().subspan(sizeof(Dinode)), std::as_const(expected).span().subspan(sizeof(Dinode)));
  if (!as_made) co_return fail_corrupt("inode {}: the cluster area is not as it was made", inode.number().value);
  const auto blocks = static_cast<std::uint32_t>(tree.blocks());
  OfflineTransaction transaction(volume);
  CO_TRY_VOID(co_await change_master(transaction, std::nullopt));
  CO_TRY_VOID(co_await mark_run(transaction, inode.number(), blocks, false));
  CO_TRY_VOID(co_await change_totals(transaction, blocks, -1));
  co_return co_await transaction.commit(context.executor, context.now, context.log);
}

/// The volume's area; none where it has none.
Task<Result<std::optional<ClusterArea>>> find_area(const VolumeReader& volume) {
  Result<ClusterArea> area = co_await ClusterArea::find(volume);
  if (area) co_return std::optional(*area);
  if (area.error().code() == ENOENT) co_return std::optional<ClusterArea>();
  co_return std::unexpected(std::move(area).error());
}

}  // namespace

Task<Result<>> adopt_volume(AdoptionContext context, cluster::Header header, std::string lock_table) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(context.device));
  const SuperblockInfo& superblock = volume.superblock();
  if (lock_table.empty()) lock_table = superblock.lock_table;
  mkfs::FormatOptions options;
  options.lock_table = lock_table;
  if (auto checked = mkfs::check_options(options); !checked)
    co_return fail(EINVAL, "{}: lock table '{}': give one as CLUSTER:NAME", context.device.name(), lock_table);
  CO_TRY(std::optional<ClusterArea> area, co_await find_area(volume));
  if (area && superblock.lock_protocol == mkfs::kLockCorral)
    co_return fail(EEXIST, "{}: the volume has a cluster area already", context.device.name());
  if (area) CO_TRY_VOID(co_await cluster::check_no_node_lives(context.executor, *area, cluster::SoleUse::writing));
  CO_TRY_VOID(co_await check_journals_clean(context.executor, volume));
  if (!area) CO_TRY_VOID(co_await add_area(context, volume, header));
  co_return co_await change_superblock(volume, {.lock_protocol = mkfs::kLockCorral, .lock_table = lock_table});
}

Task<Result<>> release_volume(AdoptionContext context, std::string lock_protocol) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(context.device));
  CO_TRY(std::optional<ClusterArea> area, co_await find_area(volume));
  if (!area && volume.superblock().lock_protocol != mkfs::kLockCorral)
    co_return fail(EINVAL, "{}: the volume is not in Corral's care (lock protocol {})", context.device.name(),
                   volume.superblock().lock_protocol);
  if (area) CO_TRY_VOID(co_await cluster::check_no_node_lives(context.executor, *area, cluster::SoleUse::writing));
  CO_TRY_VOID(co_await check_journals_clean(context.executor, volume));
  CO_TRY_VOID(co_await change_superblock(volume, {.lock_protocol = lock_protocol}));
  if (area) CO_TRY_VOID(co_await remove_area(context, volume));
  co_return Result<>{};
}

}  // namespace corral
