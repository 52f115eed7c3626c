#include "fsck/naming.h"

#include <dirent.h>

namespace corral::fsck {

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

}  // namespace corral::fsck
