/// FileData: finding room for new blocks, and the times of a change.
#include <algorithm>

#include "fs/file_parts.h"

namespace corral {

void touch(const Volume& volume, ondisk::Dinode& dinode) {
  const WallTime now = volume.clock.wall();
  dinode.mtime = static_cast<std::uint64_t>(now.seconds);
  dinode.mtime_nanoseconds = now.nanoseconds;
  dinode.ctime = static_cast<std::uint64_t>(now.seconds);
  dinode.ctime_nanoseconds = now.nanoseconds;
}

Task<Result<FileRoom>> find_room(FileParts& parts, const LockedInode& inode, FileRange blocks, MetadataTree::Cost cost,
                                 bool exempt_from_limits) {
  const FileBlock first(blocks.first);
  std::uint64_t count = blocks.end - blocks.first;
  AllotmentRequest request;
  request.goal = MetadataTree::goal(inode);
  request.blocks = cost.new_blocks;
  request.owner = ownership_of(inode.dinode());
  request.exempt_from_limits = exempt_from_limits;
  request.window = &inode.inode().window;
  auto allotment = co_await parts.allocator.allot(request);
  if (allotment) co_return FileRoom{std::move(*allotment), count, cost};
  const int code = allotment.error().code();
  if (count == 1 || (code != ENOSPC && code != EDQUOT)) co_return std::unexpected(allotment.error());

  CO_TRY(MetadataTree::Cost least, co_await parts.tree.allocation_cost(inode, first, 1));
  request.blocks = std::max(least.new_blocks, 1u);
  request.wished = cost.new_blocks - request.blocks;
  allotment = co_await parts.allocator.allot(request);
  if (!allotment) co_return std::unexpected(allotment.error());
  while (cost.new_blocks > allotment->available()) {
    std::uint64_t excess = cost.new_blocks - allotment->available();
    count = std::max<std::uint64_t>(1, count - std::min(count - 1, excess));
    CO_TRY(cost, co_await parts.tree.allocation_cost(inode, first, count));
  }
  co_return FileRoom{std::move(*allotment), count, cost};
}

}  // namespace corral
