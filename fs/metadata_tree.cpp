#include "fs/metadata_tree.h"

#include <algorithm>

#include "fs/tree_node.h"

namespace corral {

namespace {

/// The node nearest to the data on the way to a file block, and the pointer there: to data, or null.
struct Descent {
  TreeNode node;
  std::uint32_t index = 0;
};

Task<Result<Descent>> descend(const TreeNodes& nodes, std::uint64_t block, std::uint64_t end) {
  Descent at{nodes.root(), 0};
  for (;;) {
    at.index = at.node.index_of(block);
    if (nodes.is_lowest(at.node) || at.node.pointers()[at.index] == 0) co_return at;
    std::uint64_t last_block = std::min(end, at.node.range().end) - 1;
    CO_TRY(at.node, co_await nodes.child(at.node, at.index, at.node.index_of(last_block)));
  }
}

/// Consecutive pointers from `index` on that continue a run whose next block would be `expected` (0: a hole).
std::uint32_t matching_pointers(std::span<const ondisk::be64> pointers, std::uint32_t index, BlockNo expected,
                                std::uint64_t limit) {
  std::uint64_t step = expected.value == 0 ? 0 : 1;
  std::uint32_t count = 0;
  std::uint64_t most = std::min<std::uint64_t>(pointers.size() - index, limit);
  while (count < most && pointers[index + count] == expected.value + count * step)
    ++count;
  return count;
}

}  // namespace

Task<Result<MappedRun>> MetadataTree::map(const LockedInode& inode, FileBlock first, std::uint64_t limit) {
  CHECK_INVARIANT(!inode.is_stuffed() && limit > 0);
  TreeNodes nodes(volume_, inode);
  MappedRun run{first, 0, BlockNo()};
  const std::uint64_t end = limit > ~first.value ? ~std::uint64_t{0} : first.value + limit;
  const std::uint64_t reach = std::min(end, nodes.shape().reach().end);
  std::uint64_t position = first.value;
  while (position < reach) {
    CO_TRY(Descent at, co_await descend(nodes, position, reach));
    auto pointers = at.node.pointers();
    BlockNo pointer(pointers[at.index]);
    if (run.length == 0) run.start = pointer;
    BlockNo expected = run.is_hole() ? BlockNo() : run.start + run.length;
    if (pointer != expected) break;
    std::uint64_t wanted_pointers = (reach - 1 - at.node.range_of(at.index).first) / at.node.span + 1;
    std::uint32_t count = matching_pointers(pointers, at.index, expected, wanted_pointers);
    std::uint64_t next = std::min(at.node.range_of(at.index + count - 1).end, reach);
    run.length += next - position;
    position = next;
    if (nodes.is_lowest(at.node) && at.index + count < pointers.size()) break;
  }
  // Past the tree's reach there is only a hole.
  if (position >= reach && (run.length == 0 || run.is_hole())) run.length = end - first.value;
  if (!run.is_hole()) CO_TRY_VOID(nodes.check_data(run.start, run.length));
  co_return run;
}

Task<Result<std::optional<FileBlock>>> MetadataTree::seek(const LockedInode& inode, FileBlock first, FileBlock end,
                                                          bool want_data) {
  while (first < end) {
    CO_TRY(MappedRun run, co_await map(inode, first, end - first));
    if (run.is_hole() != want_data) co_return first;
    first += run.length;
  }
  co_return std::nullopt;
}

}  // namespace corral
