#include "tools/mkfs/volume_image.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <dirent.h>
#include <sys/stat.h>

#include "base/check.h"
#include "cluster/area.h"
#include "ondisk/checksum.h"
#include "ondisk/text_field.h"

namespace corral::mkfs {

using namespace ondisk;

namespace {

constexpr std::uint32_t kSystemFile = kDinodeSystem | kDinodeJournaledData;

/// Directories with names and no inodes yet: their sizes are needed before anything has a place.
DirectoryBuilder master_directory(const Geometry& geometry, const FormatOptions& options) {
  DirectoryBuilder directory(geometry);
  for (const char* name : {"jindex", "per_node"})
    directory.add(name, DT_DIR);
  for (const char* name : {"inum", "statfs", "rindex", "quota"})
    directory.add(name, DT_REG);
  if (has_cluster_area(options)) directory.add(cluster::kAreaFileName, DT_REG);
  return directory;
}

DirectoryBuilder jindex_directory(const Geometry& geometry, std::uint32_t nodes) {
  DirectoryBuilder directory(geometry);
  for (std::uint32_t node = 0; node < nodes; ++node)
    directory.add(fmt::format("journal{}", node), DT_REG);
  return directory;
}

DirectoryBuilder per_node_directory(const Geometry& geometry, std::uint32_t nodes) {
  DirectoryBuilder directory(geometry);
  for (std::uint32_t node = 0; node < nodes; ++node) {
    for (const char* name : {"inum_range", "statfs_change", "quota_change"})
      directory.add(fmt::format("{}{}", name, node), DT_REG);
  }
  return directory;
}

/// Blocks of the volume that hold data, and those and the dinodes among them that are allocated.
struct Totals {
  std::uint64_t data = 0;
  std::uint64_t free = 0;
  std::uint64_t dinodes = 0;
};

Totals totals_of(const Placement& placement) {
  Totals totals;
  for (const PlacedGroup& group : placement.groups) {
    totals.data += group.shape.data;
    totals.free += group.free();
    totals.dinodes += group.dinodes.size();
  }
  return totals;
}

/// Like WrittenRange, joined with the one before it where they touch.
void append_range(std::vector<WrittenRange>& ranges, BlockNo start, std::uint64_t blocks) {
  if (!ranges.empty() && ranges.back().start + ranges.back().blocks == start) {
    ranges.back().blocks += blocks;
  } else {
    ranges.push_back({start, blocks});
  }
}

void put_block_state(std::span<std::byte> bitmap, std::uint64_t index, BlockState state) {
  const auto shift = static_cast<int>(index % kBlocksPerBitmapByte * 2);
  std::byte& byte = bitmap[index / kBlocksPerBitmapByte];
  byte = (byte & ~(std::byte{3} << shift)) | (std::byte{std::to_underlying(state)} << shift);
}

}  // namespace

Result<VolumeImage> VolumeImage::plan(const FormatOptions& options, const DeviceGeometry& device) {
  TRY_VOID(check_options(options));
  const Geometry geometry(options.block_size);
  TRY(auto placement, place_volume(options, device,
                                   {.master_blocks = master_directory(geometry, options).blocks(),
                                    .jindex_blocks = jindex_directory(geometry, options.journals).blocks(),
                                    .per_node_blocks = per_node_directory(geometry, options.journals).blocks()}));
  return VolumeImage(options, std::move(placement));
}

VolumeImage::VolumeImage(const FormatOptions& options, Placement placement)
    : options_(options), placement_(std::move(placement)) {
  name_inodes();
  make_directories();
  make_small_files();
  if (!placement_.system.cluster_area) return;
  const AlignedBuffer area = cluster::ClusterArea::new_contents(options_.cluster);
  area_.assign(area.span().begin(), area.span().end());
}

InodeIdentity VolumeImage::new_inode(BlockNo address) {
  return {.formal_ino = next_formal_ino_++, .addr = address.value};
}

void VolumeImage::name_inodes() {
  const SystemFiles& files = placement_.system;
  system_inodes_ = {.root = new_inode(files.root),
                    .master = new_inode(files.master),
                    .jindex = new_inode(files.jindex),
                    .per_node = new_inode(files.per_node),
                    .inum = new_inode(files.inum),
                    .statfs = new_inode(files.statfs),
                    .quota = new_inode(files.quota),
                    .rindex = new_inode(files.rindex),
                    .cluster_area = {}};
  for (const NodeFiles& node : placement_.nodes)
    node_inodes_.push_back({.journal = new_inode(node.journal.dinode()),
                            .inum_range = new_inode(node.inum_range),
                            .statfs_change = new_inode(node.statfs_change),
                            .quota_change = new_inode(node.quota_change.dinode())});
  if (files.cluster_area) system_inodes_.cluster_area = new_inode(files.cluster_area->dinode());
}

Dinode VolumeImage::new_dinode(const InodeIdentity& inode, std::uint32_t mode, std::uint32_t flags) const {
  Dinode dinode{};
  dinode.header.set(MetaType::dinode);
  dinode.num = inode;
  dinode.mode = mode;
  dinode.nlink = 1;
  dinode.blocks = 1;
  dinode.atime = dinode.mtime = dinode.ctime = static_cast<std::uint64_t>(options_.now.seconds);
  dinode.atime_nanoseconds = dinode.mtime_nanoseconds = dinode.ctime_nanoseconds = options_.now.nanoseconds;
  dinode.goal_meta = dinode.goal_data = inode.addr;
  dinode.flags = flags;
  return dinode;
}

Dinode VolumeImage::new_directory(const InodeIdentity& inode, std::uint32_t mode, std::uint32_t flags,
                                  std::uint32_t subdirectories) const {
  Dinode dinode = new_dinode(inode, S_IFDIR | mode, flags | kDinodeJournaledData);
  dinode.nlink = 2 + subdirectories;
  return dinode;
}

void VolumeImage::keep(std::vector<BlockBytes> directory) {
  const BlockNo first(view<Dinode>(directory[0]).num.addr);
  for (std::size_t i = 0; i < directory.size(); ++i)
    kept_[first + i] = std::move(directory[i]);
}

template <class Contents>
void VolumeImage::keep_stuffed(const InodeIdentity& inode, std::uint32_t payload_format, const Contents& contents) {
  BlockBytes block(geometry().block_size());
  auto& dinode = view<Dinode>(block);
  dinode = new_dinode(inode, S_IFREG | 0600, kSystemFile);
  dinode.size = sizeof(contents);
  dinode.payload_format = payload_format;
  std::memcpy(block.data() + sizeof(Dinode), &contents, sizeof(contents));
  kept_[BlockNo(inode.addr)] = std::move(block);
}

void VolumeImage::make_directories() {
  const SystemInodes& inodes = system_inodes_;
  std::vector<InodeIdentity> journals;
  std::vector<InodeIdentity> node_files;
  for (const NodeInodes& node : node_inodes_) {
    journals.push_back(node.journal);
    node_files.insert(node_files.end(), {node.inum_range, node.statfs_change, node.quota_change});
  }
  std::vector<InodeIdentity> top_level{inodes.jindex, inodes.per_node, inodes.inum,
                                       inodes.statfs, inodes.rindex,   inodes.quota};
  if (placement_.system.cluster_area) top_level.push_back(inodes.cluster_area);
  keep(DirectoryBuilder(geometry()).build(new_directory(inodes.root, 0755, 0, 0), inodes.root, {}));
  keep(master_directory(geometry(), options_)
           .build(new_directory(inodes.master, 0755, kDinodeSystem, 2), inodes.master, top_level));
  keep(jindex_directory(geometry(), options_.journals)
           .build(new_directory(inodes.jindex, 0700, kDinodeSystem, 0), inodes.master, journals));
  keep(per_node_directory(geometry(), options_.journals)
           .build(new_directory(inodes.per_node, 0700, kDinodeSystem, 0), inodes.master, node_files));
}

void VolumeImage::make_small_files() {
  for (const NodeInodes& node : node_inodes_) {
    keep_stuffed(node.inum_range, 0, InumRange{});
    keep_stuffed(node.statfs_change, 0, StatfsChange{});
  }
  const Totals totals = totals_of(placement_);
  keep_stuffed(system_inodes_.inum, 0, be64(next_formal_ino_));
  keep_stuffed(system_inodes_.statfs, 0,
               StatfsChange{.total = totals.data, .free = totals.free, .dinodes = totals.dinodes});
  // The root directory's block is charged to user 0 and group 0.
  std::array<Quota, 2> quotas{};
  quotas[0].value = quotas[1].value = 1;
  keep_stuffed(system_inodes_.quota, kFormatQuota, quotas);
  if (placement_.system.rindex_data_blocks != 0) return;
  BlockBytes block(geometry().block_size());
  auto& dinode = view<Dinode>(block);
  dinode = new_dinode(system_inodes_.rindex, S_IFREG | 0600, kSystemFile);
  dinode.size = placement_.groups.size() * sizeof(ResourceGroupIndexEntry);
  dinode.payload_format = kFormatResourceIndex;
  for (std::size_t group = 0; group < placement_.groups.size(); ++group)
    view<ResourceGroupIndexEntry>(block, sizeof(Dinode) + group * sizeof(ResourceGroupIndexEntry)) =
        rindex_entry(group);
  kept_[placement_.system.rindex] = std::move(block);
}

std::vector<WrittenRange> VolumeImage::written_ranges() const {
  std::vector<WrittenRange> ranges;
  for (const PlacedGroup& group : placement_.groups)
    append_range(ranges, group.addr, group.shape.length + group.used);
  return ranges;
}

void VolumeImage::fill(BlockNo address, std::span<std::byte> block) const {
  const auto& groups = placement_.groups;
  auto behind = std::upper_bound(groups.begin(), groups.end(), address,
                                 [](BlockNo place, const PlacedGroup& group) { return place < group.addr; });
  CHECK_INVARIANT(behind != groups.begin() && block.size() == geometry().block_size());
  const PlacedGroup& group = *(behind - 1);
  if (address < group.data0()) return fill_group_block(group, address - group.addr, block);
  CHECK_INVARIANT(address < group.data0() + group.used);
  if (auto kept = kept_.find(address); kept != kept_.end()) {
    std::memcpy(block.data(), kept->second.data(), block.size());
    return;
  }
  const auto index = static_cast<std::size_t>(&group - groups.data());
  if (index < placement_.nodes.size()) return fill_node_block(index, address, block);
  const auto& area = placement_.system.cluster_area;
  if (area && area->contains(address)) return fill_area_block(*area, address, block);
  fill_rindex_block(address, block);
}

void VolumeImage::fill_superblock(std::span<std::byte> block) const {
  auto& superblock = view<Superblock>(block);
  superblock.header.set(MetaType::superblock);
  superblock.fs_format = options_.fs_format;
  superblock.multihost_format = kMultihostFormat;
  superblock.block_size = geometry().block_size();
  superblock.block_size_shift = geometry().block_shift();
  superblock.master_dir = system_inodes_.master;
  superblock.root_dir = system_inodes_.root;
  set_text(superblock.lock_protocol, options_.lock_protocol);
  set_text(superblock.lock_table, options_.lock_table);
  superblock.uuid = options_.uuid;
}

void VolumeImage::fill_group_block(const PlacedGroup& group, std::uint64_t index, std::span<std::byte> block) const {
  ondisk::fill_group_block(block, index, group.addr, group.shape, group.skip);
  if (index > 0)
    return fill_bitmap(group, geometry().rgrp_bitmap_bytes(index) * kBlocksPerBitmapByte,
                       block.subspan(sizeof(MetaHeader)));
  auto& header = view<ResourceGroup>(block);
  header.free = static_cast<std::uint32_t>(group.free());
  header.dinodes = static_cast<std::uint32_t>(group.dinodes.size());
  header.crc = rgrp_crc(header);
  fill_bitmap(group, 0, block.subspan(sizeof(ResourceGroup)));
}

void VolumeImage::fill_bitmap(const PlacedGroup& group, std::uint64_t first_data_block,
                              std::span<std::byte> bytes) const {
  if (group.used <= first_data_block) return;
  constexpr std::byte kFourUsed{0x55};
  const std::uint64_t used =
      std::min<std::uint64_t>(group.used - first_data_block, bytes.size() * kBlocksPerBitmapByte);
  const std::uint64_t whole_bytes = used / kBlocksPerBitmapByte;
  std::fill_n(bytes.begin(), whole_bytes, kFourUsed);
  for (std::uint64_t i = whole_bytes * kBlocksPerBitmapByte; i < used; ++i)
    put_block_state(bytes, i, BlockState::used);
  for (BlockNo dinode : group.dinodes) {
    const std::uint64_t index = dinode - group.data0();
    if (index >= first_data_block && index < first_data_block + used)
      put_block_state(bytes, index - first_data_block, BlockState::dinode);
  }
}

void VolumeImage::fill_tree_dinode(const FileTree& tree, const InodeIdentity& inode, std::uint64_t size,
                                   std::span<std::byte> block) const {
  auto& dinode = view<Dinode>(block);
  dinode = new_dinode(inode, S_IFREG | 0600, kDinodeSystem);
  dinode.size = size;
  dinode.blocks = tree.blocks();
  dinode.height = static_cast<std::uint16_t>(tree.height());
  tree.fill_dinode_pointers(block);
}

void VolumeImage::fill_node_block(std::size_t node, BlockNo address, std::span<std::byte> block) const {
  const NodeFiles& files = placement_.nodes[node];
  const bool in_journal = files.journal.contains(address);
  const FileTree& tree = in_journal ? files.journal : files.quota_change;
  CHECK_INVARIANT(tree.contains(address));
  if (address == tree.dinode()) {
    const NodeInodes& inodes = node_inodes_[node];
    return fill_tree_dinode(tree, in_journal ? inodes.journal : inodes.quota_change,
                            tree.data_blocks() << geometry().block_shift(), block);
  }
  if (address < tree.first_data()) return tree.fill_indirect(address, block);
  if (in_journal) return fill_log_header(files, address, block);
  view<MetaHeader>(block).set(MetaType::quota_change);
}

void VolumeImage::fill_log_header(const NodeFiles& files, BlockNo address, std::span<std::byte> block) const {
  // A header in every block, rising from 0: whatever the device held before, the last block is the journal's head.
  const std::uint64_t place = address - files.journal.first_data();
  auto& header = view<LogHeader>(block);
  header.header.set(MetaType::log_header);
  header.sequence = place;
  header.flags = kLogHeadUnmount | kLogHeadUserspace;
  header.block_number = static_cast<std::uint32_t>(place);
  header.tail = header.block_number;
  header.seconds = static_cast<std::uint64_t>(options_.now.seconds);
  header.nanoseconds = options_.now.nanoseconds;
  header.addr = address.value;
  header.journal_inode = files.journal.dinode().value;
  header.statfs_addr = files.statfs_change.value;
  header.quota_addr = files.quota_change.dinode().value;
  header.hash = log_header_hash(header);
  header.crc = log_header_crc(block);
}

void VolumeImage::fill_area_block(const FileTree& area, BlockNo address, std::span<std::byte> block) const {
  if (address == area.dinode())
    return fill_tree_dinode(area, system_inodes_.cluster_area, cluster::area_file_bytes(geometry().block_size()),
                            block);
  if (address < area.first_data()) return area.fill_indirect(address, block);
  const std::uint64_t begin = cluster::area_offset_in(geometry().offset_bytes(area.first_data()));
  const std::uint64_t at = geometry().offset_bytes(address);
  // Where blocks are smaller than records, some lie before the area's begin or behind its end.
  if (at < begin || at >= begin + cluster::kAreaBytes) return;
  std::memcpy(block.data(), area_.data() + (at - begin), block.size());
}

ResourceGroupIndexEntry VolumeImage::rindex_entry(std::size_t index) const {
  return index_entry(placement_.groups[index].addr, placement_.groups[index].shape);
}

void VolumeImage::fill_rindex_block(BlockNo address, std::span<std::byte> block) const {
  const FileTree tree(geometry(), placement_.system.rindex, placement_.system.rindex_data_blocks);
  CHECK_INVARIANT(tree.contains(address));
  const std::uint64_t size = placement_.groups.size() * sizeof(ResourceGroupIndexEntry);
  if (address == tree.dinode()) {
    fill_tree_dinode(tree, system_inodes_.rindex, size, block);
    view<Dinode>(block).flags = kSystemFile;
    view<Dinode>(block).payload_format = kFormatResourceIndex;
    return;
  }
  if (address < tree.first_data()) return tree.fill_indirect(address, block);
  // Entries straddle blocks.
  const std::uint64_t begin = (address - tree.first_data()) * block.size();
  const std::uint64_t end = std::min(begin + block.size(), size);
  for (std::uint64_t at = begin; at < end;) {
    const std::uint64_t within = at % sizeof(ResourceGroupIndexEntry);
    const std::uint64_t bytes = std::min(sizeof(ResourceGroupIndexEntry) - within, end - at);
    const ResourceGroupIndexEntry entry = rindex_entry(at / sizeof(ResourceGroupIndexEntry));
    std::memcpy(block.data() + (at - begin), reinterpret_cast<const std::byte*>(&entry) + within, bytes);
    at += bytes;
  }
}

}  // namespace corral::mkfs
