#include "fsck/naming.h"

#include <dirent.h>
#include <sys/stat.h>

#include "fsck/inode_pass.h"
#include "fsck/new_blocks.h"

namespace corral::fsck {

using namespace ondisk;

Task<Result<>> add_names(Volume& volume, BlockNo directory, std::vector<NameEntry> names) {
  // Laying out a damaged directory, whose repair was declined, would drop the names that cannot be read.
  if (volume.damaged_directories.contains(directory))
    co_return fail(EBUSY, "directory {} is damaged and was not repaired", directory.value);
  CO_TRY(DirectoryContents contents, co_await read_directory(volume, directory));
  contents.entries.insert(contents.entries.end(), names.begin(), names.end());
  CO_TRY_VOID(co_await lay_out_directory(volume, directory, std::move(contents.entries), contents.blocks));
  for (const NameEntry& name : names) {
    InodeRecord* inode = volume.inodes.find(BlockNo(name.inode.addr));
    ++inode->names;
    inode->flags &= static_cast<std::uint16_t>(~InodeRecord::kUnlinked);
    if (name.type != DT_DIR) continue;
    ++volume.inodes.find(directory)->names;
    volume.inodes.find_directory(inode->number())->parent = directory.value;
  }
  co_return Result<>{};
}

Task<Result<BlockNo>> make_inode(Volume& volume, BlockNo directory, std::string name, std::uint32_t mode,
                                 std::uint32_t flags, std::uint32_t payload_format) {
  auto blocks = take_blocks(volume, 1, Use::dinode);
  if (!blocks) co_return fail(ENOSPC, "there is no free block for {}", name);
  const BlockNo address = blocks->front();
  BlockBytes block = new_dinode(volume, address, mode, flags);
  auto& dinode = view<Dinode>(block);
  dinode.payload_format = payload_format;
  const InodeIdentity self = dinode.num;
  volume.write(address, block);
  const std::uint8_t type = S_ISDIR(mode) ? DT_DIR : DT_REG;
  if (type == DT_DIR) {
    const InodeRecord* parent = volume.inodes.find(directory);
    CO_TRY_VOID(co_await lay_out_directory(
        volume, address, {{".", self, DT_DIR}, {"..", {parent->formal_ino, parent->address}, DT_DIR}}, {}));
  }
  CO_TRY_VOID(co_await take_inode(volume, address));
  if (type == DT_DIR) volume.inodes.find(address)->names = 1;
  CO_TRY_VOID(co_await add_names(volume, directory, {{std::move(name), self, type}}));
  co_return address;
}

}  // namespace corral::fsck
