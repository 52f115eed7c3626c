#include "fs/directory_table.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "fs/dirent_block.h"
#include "ondisk/validate.h"

namespace corral {

using ondisk::be64;
using ondisk::Dinode;
using ondisk::Leaf;
using ondisk::MetaHeader;
using ondisk::MetaType;

namespace {

Result<> check_table_block(std::span<const std::byte> block, BlockNo address, const ondisk::Geometry& geometry) {
  (void)geometry;
  return ondisk::check_meta_header(block, address, MetaType::journaled_data);
}

}  // namespace

Error in_directory(const LockedInode& directory, Error error) {
  // Everyday errors have no message, and nobody to read one.
  if (error.message().empty()) return error;
  return error.within(fmt::format("directory {}", directory.address().value));
}

void TableRange::set(Transaction& transaction, std::uint32_t index, std::uint32_t count, BlockNo leaf) const {
  const std::uint32_t end = index + count;
  while (index < end) {
    const TablePiece& part = piece(index);
    const std::uint32_t stop = std::min(end, part.first + part.count);
    auto bytes = transaction.modify(*part.block);
    for (; index < stop; ++index)
      ondisk::view<be64>(bytes, part.offset_bytes(index)) = leaf.value;
  }
}

const TablePiece& TableRange::piece(std::uint32_t index) const {
  CHECK_INVARIANT(!pieces_.empty() && index >= pieces_.front().first);
  // All pieces but the last hold as many pointers as the first.
  const std::size_t number = (index - pieces_.front().first) / pieces_.front().count;
  CHECK_INVARIANT(number < pieces_.size() && pieces_[number].covers(index));
  return pieces_[number];
}

std::uint32_t DirectoryTable::tree_blocks(std::uint32_t depth) const {
  const std::uint64_t bytes = sizeof(be64) << depth;
  return static_cast<std::uint32_t>(volume_.geometry.directory_data_blocks(bytes));
}

TablePiece DirectoryTable::piece_in_dinode(const LockedInode& directory) const {
  return {BlockRef(&directory.block()), sizeof(Dinode), 0, size(directory)};
}

TablePiece DirectoryTable::piece_in_tree(std::uint64_t file_block, BlockRef block, std::uint32_t table_size) const {
  const auto pointers = static_cast<std::uint32_t>(volume_.geometry.directory_data_bytes() / sizeof(be64));
  const auto first = static_cast<std::uint32_t>(file_block * pointers);
  return {std::move(block), sizeof(MetaHeader), first, std::min(pointers, table_size - first)};
}

Result<> DirectoryTable::check_pointer(const LockedInode& directory, BlockNo pointer, BlockNo holder,
                                       std::string_view what) const {
  const std::uint64_t volume_blocks = volume_.device.geometry().size_bytes >> volume_.geometry.block_shift();
  return in_directory(directory, ondisk::check_pointer(pointer, holder, what, volume_.geometry, volume_blocks));
}

Task<Result<TablePiece>> DirectoryTable::piece_at(const LockedInode& directory, std::uint32_t index) {
  CHECK_INVARIANT(index < size(directory));
  if (directory.is_stuffed()) co_return piece_in_dinode(directory);
  const FileBlock place(index / (volume_.geometry.directory_data_bytes() / sizeof(be64)));
  CO_TRY(MappedRun run, in_directory(directory, co_await tree_.map(directory, place, 1)));
  if (run.is_hole())
    co_return fail_corrupt("directory {}: block {} of the hash table is missing", directory.address().value,
                           place.value);
  CO_TRY(BlockRef block,
         in_directory(directory, co_await volume_.cache.read(directory.owner(), run.start, check_table_block)));
  co_return piece_in_tree(place.value, std::move(block), size(directory));
}

Task<Result<TableRange>> DirectoryTable::load(const LockedInode& directory, std::uint32_t first, std::uint32_t count) {
  CHECK_INVARIANT(count > 0 && first + count <= size(directory));
  TableRange range;
  if (!directory.is_stuffed()) {
    // So that a large table is read with many requests at a time.
    const std::uint64_t pointers = volume_.geometry.directory_data_bytes() / sizeof(be64);
    std::vector<BlockNo> blocks;
    FileBlock place(first / pointers);
    const FileBlock end((first + count - 1) / pointers + 1);
    while (place < end) {
      CO_TRY(MappedRun run, in_directory(directory, co_await tree_.map(directory, place, end - place)));
      for (std::uint64_t i = 0; i < run.length && !run.is_hole(); ++i)
        blocks.push_back(run.start + i);
      place += run.length;
    }
    if (blocks.size() > 1) volume_.cache.read_ahead(directory.owner(), blocks, check_table_block);
    range.pieces_.reserve(blocks.size());
  }
  for (std::uint32_t index = first; index < first + count;) {
    CO_TRY(TablePiece piece, co_await piece_at(directory, index));
    index = piece.first + piece.count;
    range.pieces_.push_back(std::move(piece));
  }
  co_return range;
}

Result<BlockNo> DirectoryTable::leaf_at(const LockedInode& directory, const TablePiece& piece,
                                        std::uint32_t index) const {
  const BlockNo leaf = piece.pointer(index);
  if (!leaf)
    return fail_corrupt("directory {}: entry {} of the hash table is 0 (block {}, byte {}), expected a leaf's block",
                        directory.address().value, index, piece.block->number().value, piece.offset_bytes(index));
  TRY_VOID(check_pointer(directory, leaf, piece.block->number(), "the hash table"));
  return leaf;
}

Task<Result<BlockRef>> DirectoryTable::read_leaf(const LockedInode& directory, BlockNo address) {
  CO_TRY(BlockRef block,
         in_directory(directory, co_await volume_.cache.read(directory.owner(), address, check_leaf_block)));
  const auto& leaf = block->as<Leaf>();
  if (const std::uint32_t most = directory.dinode().depth; leaf.depth > most)
    co_return fail_corrupt("directory {}: leaf {} has depth {}, expected at most the table's {}",
                           directory.address().value, address.value, leaf.depth.value(), most);
  // Leaves written by kernels before 3.3 do not say whose they are.
  if (leaf.inode != 0 && leaf.inode != directory.address().value)
    co_return fail_corrupt("directory {}: leaf {} belongs to directory {}", directory.address().value, address.value,
                           leaf.inode.value());
  if (const BlockNo next(leaf.next); next) CO_TRY_VOID(check_pointer(directory, next, address, "the leaf's successor"));
  co_return block;
}

std::unexpected<Error> DirectoryTable::circular_chain(const LockedInode& directory, BlockNo leaf) {
  return fail_corrupt("directory {}: the chain of leaves comes back to leaf {}", directory.address().value, leaf.value);
}

void DirectoryTable::read_ahead(const LockedInode& directory, const TablePiece& piece, std::uint32_t index,
                                std::size_t most) {
  std::vector<BlockNo> leaves;
  leaves.reserve(most);
  for (; piece.covers(index) && leaves.size() < most; ++index) {
    const BlockNo leaf = piece.pointer(index);
    if (!leaves.empty() && leaves.back() == leaf) continue;
    // A bad pointer is told when its turn comes.
    if (!leaf || !check_pointer(directory, leaf, piece.block->number(), "the hash table")) break;
    leaves.push_back(leaf);
  }
  volume_.cache.read_ahead(directory.owner(), leaves, check_leaf_block);
}

Task<Result<>> DirectoryTable::grow(Transaction& transaction, Allotment& allotment, const LockedInode& directory,
                                    TableRange& whole, std::uint32_t doublings) {
  const std::uint32_t old_size = size(directory);
  const std::uint32_t new_size = old_size << doublings;
  const std::uint32_t new_depth = directory.dinode().depth + doublings;
  CHECK_INVARIANT(new_depth <= ondisk::kDirMaxDepth);
  CHECK_INVARIANT(whole.pieces_.back().first + whole.pieces_.back().count == old_size);

  std::vector<BlockRef> blocks;
  blocks.reserve(tree_blocks(new_depth));
  if (directory.is_stuffed()) {
    CO_TRY_VOID(co_await tree_.unstuff(transaction, allotment, directory, nullptr));
    CO_TRY(MappedRun run, co_await tree_.map(directory, FileBlock(0), 1));
    CO_TRY(BlockRef block, co_await volume_.cache.read(directory.owner(), run.start, check_table_block));
    blocks.push_back(std::move(block));
  } else {
    for (TablePiece& piece : whole.pieces_)
      blocks.push_back(std::move(piece.block));
  }
  const std::uint32_t old_blocks = static_cast<std::uint32_t>(blocks.size());
  const std::uint32_t added = tree_blocks(new_depth) - old_blocks;
  if (added > 0) {
    CO_TRY_VOID(co_await tree_.allocate(transaction, allotment, directory, FileBlock(old_blocks), added,
                                        [&](FileBlock, Extent extent) {
                                          for (std::uint32_t i = 0; i < extent.length; ++i)
                                            blocks.push_back(volume_.cache.create(directory.owner(), extent.start + i));
                                        }));
  }
  CHECK_INVARIANT(blocks.size() == tree_blocks(new_depth));

  whole.pieces_.clear();
  for (std::uint64_t i = 0; i < blocks.size(); ++i)
    whole.pieces_.push_back(piece_in_tree(i, std::move(blocks[i]), new_size));
  // From the end on, so that each pointer is read before its place is written.
  for (std::size_t i = whole.pieces_.size(); i-- > 0;) {
    const TablePiece& part = whole.pieces_[i];
    auto bytes = transaction.modify(*part.block);
    if (i >= old_blocks) ondisk::view<MetaHeader>(bytes).set(MetaType::journaled_data);
    for (std::uint32_t index = part.first + part.count; index-- > part.first;)
      ondisk::view<be64>(bytes, part.offset_bytes(index)) = whole.pointer(index >> doublings).value;
  }
  auto& dinode = directory.modify(transaction);
  dinode.depth = static_cast<std::uint16_t>(new_depth);
  dinode.size = std::uint64_t{sizeof(be64)} << new_depth;
  co_return {};
}

}  // namespace corral
