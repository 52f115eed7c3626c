/// The hash table of a hashed directory and the leaves it points to, as blocks read under the directory's glock.
///
/// The table has 1 << di_depth pointers in the order of the names' hashes (the upper di_depth bits are the index); a
/// leaf of depth d is pointed to by 1 << (di_depth - d) neighbours. While it is small it lies behind the dinode, then
/// in the data blocks of the directory's tree, each behind a MetaHeader of type journaled_data.
///
/// Errors name the directory. Nothing here is kept between calls but in the block cache.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/volume.h"
#include "journal/block_cache.h"
#include "journal/journal.h"

namespace corral {

/// Puts the directory's number before an error's message.
Error in_directory(const LockedInode& directory, Error error);
template <class T>
Result<T> in_directory(const LockedInode& directory, Result<T> result) {
  if (!result) return std::unexpected(in_directory(directory, std::move(result).error()));
  return result;
}

/// The pointers that lie in one block.
struct TablePiece {
  BlockRef block;
  std::uint32_t header_bytes = 0;
  std::uint32_t first = 0;  ///< index in the table
  std::uint32_t count = 0;

  bool covers(std::uint32_t index) const { return block && index - first < count; }
  /// As it stands in the table, 0 where nothing was ever written.
  BlockNo pointer(std::uint32_t index) const { return BlockNo(block->as<ondisk::be64>(offset_bytes(index))); }
  std::uint32_t offset_bytes(std::uint32_t index) const { return header_bytes + (index - first) * 8; }
};

/// Neighbouring pieces, held in memory so that changing them cannot fail.
class TableRange {
 public:
  /// [index, index + count) point to `leaf` from now on.
  void set(Transaction& transaction, std::uint32_t index, std::uint32_t count, BlockNo leaf) const;
  BlockNo pointer(std::uint32_t index) const { return piece(index).pointer(index); }
  std::uint32_t blocks() const { return static_cast<std::uint32_t>(pieces_.size()); }

 private:
  friend class DirectoryTable;
  const TablePiece& piece(std::uint32_t index) const;
  std::vector<TablePiece> pieces_;
};

/// The indexes that point to one leaf.
struct LeafSpan {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::uint32_t end() const { return first + count; }
};
/// Those that a leaf of that depth has in a table of that depth; `index` is one of them.
constexpr LeafSpan leaf_span(std::uint32_t index, std::uint32_t leaf_depth, std::uint32_t table_depth) {
  const std::uint32_t count = std::uint32_t{1} << (table_depth - leaf_depth);
  return {index & ~(count - 1), count};
}

class DirectoryTable {
 public:
  DirectoryTable(Volume& volume, MetadataTree& tree) : volume_(volume), tree_(tree) {}

  static std::uint32_t size(const LockedInode& directory) { return std::uint32_t{1} << directory.dinode().depth; }
  static std::uint32_t index_of(const LockedInode& directory, std::uint32_t hash) {
    return hash >> (32 - directory.dinode().depth);
  }
  /// Blocks of the tree that a table of that depth takes once it does not lie behind the dinode.
  std::uint32_t tree_blocks(std::uint32_t depth) const;

  /// The piece with that index.
  Task<Result<TablePiece>> piece_at(const LockedInode& directory, std::uint32_t index);
  /// All pieces of [first, first + count).
  Task<Result<TableRange>> load(const LockedInode& directory, std::uint32_t first, std::uint32_t count);
  /// The pointer, checked to be one: corrupt if it is 0 or leads out of the volume.
  Result<BlockNo> leaf_at(const LockedInode& directory, const TablePiece& piece, std::uint32_t index) const;
  /// The leaf, checked on its own and to be of this directory.
  Task<Result<BlockRef>> read_leaf(const LockedInode& directory, BlockNo address);
  /// The error for a chain that a ChainGuard found to come back to `leaf`.
  static std::unexpected<Error> circular_chain(const LockedInode& directory, BlockNo leaf);
  /// Starts reading up to `most` leaves that the piece points to from `index` on.
  void read_ahead(const LockedInode& directory, const TablePiece& piece, std::uint32_t index, std::size_t most);

  /// Doubles the table so many times. `whole` holds all of it and is brought up to date. Blocks come from the
  /// allotment; their number and the log's were asked of MetadataTree::allocation_cost for [0, tree_blocks()).
  Task<Result<>> grow(Transaction& transaction, Allotment& allotment, const LockedInode& directory, TableRange& whole,
                      std::uint32_t doublings);

 private:
  TablePiece piece_in_dinode(const LockedInode& directory) const;
  TablePiece piece_in_tree(std::uint64_t file_block, BlockRef block, std::uint32_t table_size) const;
  Result<> check_pointer(const LockedInode& directory, BlockNo pointer, BlockNo holder, std::string_view what) const;

  Volume& volume_;
  MetadataTree& tree_;
};

}  // namespace corral
