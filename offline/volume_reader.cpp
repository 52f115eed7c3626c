#include "offline/volume_reader.h"

#include <algorithm>
#include <cstring>

#include <sys/stat.h>

#include "ondisk/dirent_walker.h"

namespace corral {

using namespace ondisk;

namespace {

constexpr std::uint64_t kLargestReadBytes = 1 << 20;

Result<> add_dirents(std::span<const std::byte> block, BlockNo address, std::vector<OfflineDirent>& entries) {
  DirentWalker walker(block, address);
  for (;;) {
    TRY(const Dirent* dirent, walker.next());
    if (dirent == nullptr) return {};
    if (is_unused(*dirent)) continue;
    entries.push_back(
        {std::string(name_of(*dirent)), BlockNo(dirent->inum.addr), dirent->inum.formal_ino, dirent->type});
  }
}

}  // namespace

bool OfflineInode::is_directory() const {
  return S_ISDIR(dinode().mode);
}

Task<Result<VolumeReader>> VolumeReader::open(Device& device) {
  const DeviceGeometry& figures = device.geometry();
  const std::size_t bytes = std::max<std::size_t>(figures.sector_bytes, 512);
  if (figures.size_bytes < kSuperblockOffsetBytes + bytes)
    co_return fail(EINVAL, "{}: {} bytes are too few for a GFS2 volume", device.name(), figures.size_bytes);
  AlignedBuffer block(bytes, false);
  CO_TRY_VOID(co_await device.read(kSuperblockOffsetBytes, block.span()));
  Result<SuperblockInfo> info = parse_superblock(block.span(), figures.size_bytes);
  if (!info) co_return std::unexpected(info.error().within(device.name()));
  if (info->geometry.block_size() % figures.sector_bytes != 0)
    co_return fail(EINVAL, "{}: blocks of {} bytes cannot be written on a device with sectors of {} bytes",
                   device.name(), info->geometry.block_size(), figures.sector_bytes);
  co_return VolumeReader(device, *std::move(info));
}

Task<Result<AlignedBuffer>> VolumeReader::read_block(BlockNo block) const {
  if (block.value >= volume_blocks())
    co_return fail_corrupt("block {} lies outside the volume of {} blocks", block.value, volume_blocks());
  AlignedBuffer buffer(geometry().block_size(), false);
  CO_TRY_VOID(co_await device_->read(geometry().offset_bytes(block), buffer.span()));
  co_return buffer;
}

Task<Result<OfflineInode>> VolumeReader::read_inode(BlockNo number) const {
  CO_TRY(AlignedBuffer block, co_await read_block(number));
  CO_TRY_VOID(check_dinode(block.span(), number, geometry()));
  co_return OfflineInode(number, std::move(block));
}

/// One walk over a file's tree.
struct VolumeReader::TreeWalk {
  BlockNo inode;
  std::uint64_t end;          ///< file blocks wanted: those below
  std::uint64_t blocks_left;  ///< more visits than the volume has blocks: the tree joins itself
  std::vector<FileExtent> extents;

  void add(FileBlock position, BlockNo block) {
    if (!extents.empty()) {
      FileExtent& last = extents.back();
      if (last.first + last.length == position && last.start + last.length == block) {
        ++last.length;
        return;
      }
    }
    extents.push_back({position, block, 1});
  }
};

Task<Result<>> VolumeReader::walk_tree(TreeWalk& walk, BlockNo holder, std::span<const be64> pointers,
                                       std::uint32_t height, std::uint64_t first) const {
  constexpr std::uint64_t kFar = std::uint64_t{1} << 62;
  std::uint64_t step = 1;
  for (std::uint32_t level = 1; level < height; ++level)
    step = step > kFar / geometry().indirect_pointers() ? kFar : step * geometry().indirect_pointers();
  std::uint64_t position = first;
  for (const be64& pointer : pointers) {
    if (position >= walk.end) break;
    if (pointer != 0) {
      const BlockNo block(pointer);
      CO_TRY_VOID(check_pointer(block, holder, "block pointer", geometry(), volume_blocks()));
      if (walk.blocks_left-- == 0)
        co_return fail_corrupt("inode {}: its tree has more blocks than the volume", walk.inode.value);
      if (height == 1) {
        walk.add(FileBlock(position), block);
      } else {
        CO_TRY(AlignedBuffer indirect, co_await read_block(block));
        CO_TRY_VOID(check_meta_header(indirect.span(), block, MetaType::indirect));
        CO_TRY_VOID(co_await walk_tree(walk, block, ondisk::pointers(indirect.span(), sizeof(MetaHeader)), height - 1,
                                       position));
      }
    }
    position += step;
  }
  co_return Result<>();
}

Task<Result<std::vector<FileExtent>>> VolumeReader::map(const OfflineInode& inode, FileBlock end) const {
  TreeWalk walk{inode.number(), end.value, volume_blocks(), {}};
  if (inode.dinode().height > 0)
    CO_TRY_VOID(co_await walk_tree(walk, inode.number(), ondisk::pointers(inode.block(), sizeof(Dinode)),
                                   inode.dinode().height, 0));
  co_return std::move(walk.extents);
}

Task<Result<std::vector<std::byte>>> VolumeReader::read_contents(const OfflineInode& inode,
                                                                 std::uint64_t limit_bytes) const {
  const std::uint64_t size = inode.size_bytes();
  if (size > limit_bytes)
    co_return fail(EFBIG, "inode {}: {} bytes long, expected at most {}", inode.number().value, size, limit_bytes);
  std::vector<std::byte> contents(size);
  if (inode.dinode().height == 0) {
    std::ranges::copy(inode.block().subspan(sizeof(Dinode), size), contents.begin());
    co_return contents;
  }
  // Blocks of a directory's table carry a header each.
  const std::size_t header = inode.is_directory() ? sizeof(MetaHeader) : 0;
  const std::uint64_t per_block = geometry().block_size() - header;
  const std::uint64_t blocks = (size + per_block - 1) / per_block;
  CO_TRY(std::vector<FileExtent> extents, co_await map(inode, FileBlock(blocks)));
  const std::uint64_t most = std::max<std::uint64_t>(1, kLargestReadBytes >> geometry().block_shift());
  AlignedBuffer buffer(std::min(most, blocks) << geometry().block_shift(), false);
  for (const FileExtent& extent : extents) {
    for (std::uint64_t done = 0; done < extent.length; done += most) {
      const std::uint64_t count = std::min(most, extent.length - done);
      std::span<std::byte> bytes = buffer.span().first(count << geometry().block_shift());
      CO_TRY_VOID(co_await device_->read(geometry().offset_bytes(extent.start + done), bytes));
      for (std::uint64_t i = 0; i < count; ++i) {
        std::span<const std::byte> block = bytes.subspan(i << geometry().block_shift(), geometry().block_size());
        if (header != 0) CO_TRY_VOID(check_meta_header(block, extent.start + done + i, MetaType::journaled_data));
        const std::uint64_t offset = (extent.first.value + done + i) * per_block;
        std::memcpy(contents.data() + offset, block.data() + header, std::min(per_block, size - offset));
      }
    }
  }
  co_return contents;
}

Task<Result<>> VolumeReader::list_leaves(const OfflineInode& directory, std::vector<OfflineDirent>& entries) const {
  const std::uint32_t depth = directory.dinode().depth;
  CO_TRY(std::vector<std::byte> table, co_await read_contents(directory, std::uint64_t{8} << kDirMaxDepth));
  // A leaf stands in consecutive slots, so it comes up again only behind itself.
  std::uint64_t blocks_left = volume_blocks();
  BlockNo previous;
  for (const be64& slot : ondisk::pointers(table, 0)) {
    if (BlockNo(slot) == previous) continue;
    previous = BlockNo(slot);
    for (BlockNo leaf = previous; leaf;) {
      CO_TRY_VOID(check_pointer(leaf, directory.number(), "leaf", geometry(), volume_blocks()));
      if (blocks_left-- == 0)
        co_return fail_corrupt("directory {}: more leaves than the volume has blocks", directory.number().value);
      CO_TRY(AlignedBuffer block, co_await read_block(leaf));
      CO_TRY_VOID(check_leaf(block.span(), leaf, depth));
      CO_TRY_VOID(add_dirents(block.span(), leaf, entries));
      leaf = BlockNo(view<Leaf>(block.span()).next);
    }
  }
  co_return Result<>();
}

Task<Result<std::vector<OfflineDirent>>> VolumeReader::list(const OfflineInode& directory) const {
  if (!directory.is_directory()) co_return fail(ENOTDIR, "inode {} is no directory", directory.number().value);
  std::vector<OfflineDirent> entries;
  CO_TRY_VOID(directory.is_hashed_directory() ? co_await list_leaves(directory, entries)
                                              : add_dirents(directory.block(), directory.number(), entries));
  co_return entries;
}

Task<Result<OfflineInode>> VolumeReader::find(const OfflineInode& directory, std::string name) const {
  CO_TRY(std::vector<OfflineDirent> entries, co_await list(directory));
  auto entry = std::find_if(entries.begin(), entries.end(), [&name](const OfflineDirent& e) { return e.name == name; });
  if (entry == entries.end()) co_return fail(ENOENT, "no {} in directory {}", name, directory.number().value);
  co_return co_await read_inode(entry->inode);
}

Task<Result<OfflineInode>> VolumeReader::system_file(std::string path) const {
  CO_TRY(OfflineInode inode, co_await read_inode(BlockNo(superblock_.master_dir.addr)));
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    CO_TRY(inode, co_await find(inode, path.substr(begin, end - begin)));
    begin = end + 1;
  }
  co_return inode;
}

}  // namespace corral
