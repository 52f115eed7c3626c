#include "tools/corral/find_paths.h"

#include <deque>

#include <dirent.h>

namespace corral {

namespace {

struct Directory {
  BlockNo inode;
  std::string path;
};

/// Nothing for a directory that is damaged, or has become something else meanwhile.
Task<Result<std::vector<OfflineDirent>>> entries_of(const VolumeReader& volume, BlockNo directory) {
  auto inode = co_await volume.read_inode(directory);
  Result<std::vector<OfflineDirent>> entries = fail(ENOTDIR);
  if (inode && inode->is_directory()) entries = co_await volume.list(*inode);
  const Error* error = !inode ? &inode.error() : !entries ? &entries.error() : nullptr;
  if (error != nullptr && error->kind() == ErrorKind::device) co_return std::unexpected(*error);
  if (error != nullptr) co_return std::vector<OfflineDirent>();
  co_return entries;
}

}  // namespace

Task<Result<std::map<BlockNo, std::string>>> find_paths(const VolumeReader& volume, std::set<BlockNo> wanted) {
  const BlockNo root(volume.superblock().root_dir.addr);
  std::map<BlockNo, std::string> found;
  if (wanted.erase(root) != 0) found[root] = "/";
  std::set<BlockNo> seen{root};
  std::deque<Directory> to_read{{root, "/"}};
  while (!wanted.empty() && !to_read.empty()) {
    const Directory directory = std::move(to_read.front());
    to_read.pop_front();
    CO_TRY(const std::vector<OfflineDirent> entries, co_await entries_of(volume, directory.inode));
    for (const OfflineDirent& entry : entries) {
      if (entry.name == "." || entry.name == "..") continue;
      if (wanted.erase(entry.inode) != 0) found[entry.inode] = directory.path + entry.name;
      if (entry.type == DT_DIR && seen.insert(entry.inode).second)
        to_read.push_back({entry.inode, directory.path + entry.name + '/'});
    }
  }
  co_return found;
}

}  // namespace corral
