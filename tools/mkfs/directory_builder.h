/// Makes a directory whose entries are all known: within its dinode if they fit, else hashed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/strong.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral::mkfs {

using BlockBytes = std::vector<std::byte>;

class DirectoryBuilder {
 public:
  /// A directory of "." and "..".
  explicit DirectoryBuilder(const ondisk::Geometry& geometry);

  /// `type`: DT_*.
  void add(std::string_view name, std::uint8_t type);
  /// Blocks that the names added so far need, the dinode's included: known before any address is.
  std::uint64_t blocks() const;
  std::uint32_t entries() const { return static_cast<std::uint32_t>(entries_.size()); }

  /// All blocks of the directory from its dinode's on, one behind the other. The dinode's size, height, depth, entries,
  /// blocks, payload format and hashed flag are set here; the rest is as in `dinode`. `children` are the inodes of the
  /// names, in order of adding.
  std::vector<BlockBytes> build(ondisk::Dinode dinode, const ondisk::InodeIdentity& parent,
                                std::span<const ondisk::InodeIdentity> children);

 private:
  struct Entry {
    std::string name;
    std::uint8_t type;
    ondisk::InodeIdentity inode;
  };
  using Indexes = std::vector<std::size_t>;
  /// A leaf holds the entries whose hash begins with `depth` given bits.
  struct LeafPlan {
    std::uint32_t depth;
    Indexes entries;
  };

  Indexes all_entries() const;
  std::size_t dirents_bytes(const Indexes& which) const;
  bool is_stuffed() const;
  std::vector<LeafPlan> plan_leaves() const;
  void split(Indexes entries, std::uint32_t depth, std::vector<LeafPlan>& leaves) const;
  std::uint32_t table_depth(const std::vector<LeafPlan>& leaves) const;
  std::uint64_t table_data_blocks(std::uint32_t depth) const;
  std::uint64_t table_tree_blocks(std::uint32_t depth) const;
  void write_dirents(const Indexes& which, std::span<std::byte> block, std::size_t offset) const;
  BlockBytes make_leaf(const LeafPlan& leaf, const ondisk::Dinode& dinode) const;
  void write_table(const std::vector<LeafPlan>& leaves, std::uint32_t depth, std::vector<BlockBytes>& blocks) const;

  ondisk::Geometry geometry_;
  std::vector<Entry> entries_;
};

}  // namespace corral::mkfs
