#include "fs/tree_node.h"

#include <algorithm>

#include "ondisk/validate.h"

namespace corral {

namespace {
/// Nodes read ahead at most; with 4 KiB blocks each describes 2 MiB of a file.
constexpr std::uint32_t kReadAheadNodes = 64;
/// Nodes read ahead for a reader that comes from the neighbouring node: the sign of reading in sequence.
constexpr std::uint32_t kSequentialNodes = 8;

Result<> check_indirect(std::span<const std::byte> bytes, BlockNo number, const ondisk::Geometry&) {
  return ondisk::check_meta_header(bytes, number, ondisk::MetaType::indirect);
}
}  // namespace

FileRange intersection(FileRange a, FileRange b) {
  return {std::max(a.first, b.first), std::min(a.end, b.end)};
}

TreeShape::TreeShape(const ondisk::Geometry& geometry, std::uint32_t height)
    : height_(height), capacity_blocks_(geometry.height_capacity_blocks(height)) {
  CHECK_INVARIANT(height >= 1 && height <= ondisk::kMaxMetaHeight);
  std::uint64_t span = 1;
  for (std::uint32_t level = height; level-- > 0; span *= geometry.indirect_pointers())
    spans_[level] = span;
}

std::uint64_t TreeShape::nodes(std::uint32_t level, FileRange range) const {
  if (range.empty()) return 0;
  if (level == 0) return 1;
  return (range.end - 1) / spans_[level - 1] - range.first / spans_[level - 1] + 1;
}

bool TreeNode::all_null() const {
  auto all = pointers();
  return std::all_of(all.begin(), all.end(), [](ondisk::be64 pointer) { return pointer == 0; });
}

TreeNodes::TreeNodes(Volume& volume, const LockedInode& inode)
    : volume_(volume),
      inode_(inode),
      shape_(volume.geometry, inode.dinode().height),
      volume_blocks_(volume.device.geometry().size_bytes >> volume.geometry.block_shift()) {}

TreeNode TreeNodes::root() const {
  TreeNode node;
  node.block = &inode_.block();
  node.span = shape_.span(0);
  node.path[0] = inode_.address();
  return node;
}

std::string TreeNodes::place(std::uint32_t level) const {
  return fmt::format("inode {}, level {} of {}", inode_.address().value, level, shape_.height());
}

Result<BlockNo> TreeNodes::pointer(const TreeNode& node, std::uint32_t index) const {
  auto pointers = node.pointers();
  CHECK_INVARIANT(index < pointers.size() && pointers[index] != 0 && !is_lowest(node));
  BlockNo block(pointers[index]);
  auto good = ondisk::check_pointer(block, node.block->number(), "block pointer", volume_.geometry, volume_blocks_);
  if (!good) return std::unexpected(good.error().within(place(node.level)));
  auto path_end = node.path.begin() + node.level + 1;
  if (std::find(node.path.begin(), path_end, block) != path_end)
    return fail_corrupt("{}: pointer {} of block {} leads back to block {}", place(node.level), index,
                        node.block->number().value, block.value);
  return block;
}

Result<> TreeNodes::check_data(BlockNo start, std::uint64_t length) const {
  BlockNo address = inode_.address();
  if (start > volume_.geometry.superblock() && start.value < volume_blocks_ && length <= volume_blocks_ - start.value &&
      (address < start || address - start >= length))
    return {};
  return fail_corrupt("{}: pointers to blocks {} to {}, expected blocks from {} to {} other than the dinode",
                      place(shape_.lowest_level()), start.value, start.value + length - 1,
                      volume_.geometry.superblock().value + 1, volume_blocks_ - 1);
}

Result<TreeNode> TreeNodes::checked(const TreeNode& parent, std::uint32_t index, BlockRef block) const {
  TreeNode node;
  node.level = parent.level + 1;
  // A block found in the cache may have come there as something else.
  if (auto good = check_indirect(block->bytes(), block->number(), volume_.geometry); !good)
    return std::unexpected(good.error().within(place(node.level)));
  node.first = parent.range_of(index).first;
  node.span = shape_.span(node.level);
  node.path = parent.path;
  node.path[node.level] = block->number();
  node.block = std::move(block);
  return node;
}

void TreeNodes::read_ahead(const TreeNode& node, std::uint32_t index, std::uint32_t last) const {
  auto pointers = node.pointers();
  std::uint32_t end = std::min(last + 1, index + kReadAheadNodes);
  if (index > 0 && pointers[index - 1] != 0 && volume_.cache.find(inode_.owner(), BlockNo(pointers[index - 1])))
    end = std::max(end, index + kSequentialNodes);
  end = std::min(end, static_cast<std::uint32_t>(pointers.size()));
  std::vector<BlockNo> wanted;
  for (std::uint32_t i = index; i < end; ++i) {
    if (pointers[i] == 0) continue;
    if (auto block = pointer(node, i)) wanted.push_back(*block);
  }
  if (wanted.size() > 1) volume_.cache.read_ahead(inode_.owner(), wanted, check_indirect);
}

Task<Result<TreeNode>> TreeNodes::child(TreeNode node, std::uint32_t index, std::uint32_t last) const {
  CO_TRY(BlockNo number, pointer(node, index));
  if (!volume_.cache.find(inode_.owner(), number)) read_ahead(node, index, last);
  auto block = co_await volume_.cache.read(inode_.owner(), number, check_indirect);
  if (!block) co_return std::unexpected(block.error().within(place(node.level + 1)));
  co_return checked(node, index, std::move(*block));
}

Result<TreeNode> TreeNodes::cached_child(const TreeNode& node, std::uint32_t index) const {
  TRY(BlockNo number, pointer(node, index));
  BlockRef block = volume_.cache.find(inode_.owner(), number);
  CHECK_INVARIANT(block != nullptr);
  return checked(node, index, std::move(block));
}

Task<Result<std::vector<BlockRef>>> TreeNodes::read_all(FileRange range) const {
  std::vector<BlockRef> held;
  std::vector<TreeNode> row = {root()};
  range = intersection(range, shape_.reach());
  if (range.empty() || shape_.height() == 1) co_return held;
  for (std::uint32_t level = 0; level < shape_.lowest_level(); ++level) {
    std::vector<TreeNode> next;
    for (const TreeNode& node : row) {
      FileRange part = intersection(range, node.range());
      std::uint32_t last = node.index_of(part.end - 1);
      for (std::uint32_t index = node.index_of(part.first); index <= last; ++index) {
        if (node.pointers()[index] == 0) continue;
        CO_TRY(TreeNode below, co_await child(node, index, last));
        held.push_back(below.block);
        next.push_back(std::move(below));
      }
    }
    row = std::move(next);
  }
  co_return held;
}

}  // namespace corral
