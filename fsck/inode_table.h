/// Every inode of the volume in 32 bytes, and every directory in 24 more.
#pragma once

#include <cstdint>
#include <vector>

#include "base/strong.h"

namespace corral::fsck {

struct InodeRecord {
  enum Flag : std::uint16_t {
    kSystem = 1,    ///< flagged as a system file
    kUnlinked = 2,  ///< state "unlinked" in the bitmap
    kGone = 4,      ///< freed by a repair
  };
  std::uint64_t address = 0;
  std::uint64_t formal_ino = 0;
  std::uint32_t link_count = 0;  ///< as the dinode says
  std::uint32_t names = 0;       ///< entries found; of a directory those of its subdirectories' ".." count too
  std::uint8_t type = 0;         ///< DT_*
  std::uint8_t reserved = 0;
  std::uint16_t flags = 0;

  bool is(Flag flag) const { return (flags & flag) != 0; }
  BlockNo number() const { return BlockNo(address); }
};
static_assert(sizeof(InodeRecord) == 32);

struct DirectoryRecord {
  std::uint64_t address = 0;
  std::uint64_t parent = 0;   ///< the directory that holds its entry; 0: none was found
  std::uint64_t dot_dot = 0;  ///< what its ".." says; 0: it has none
};

/// Both lists are filled in any order (in order of address is cheapest) and looked up in order.
class InodeTable {
 public:
  void reserve(std::size_t inodes) { inodes_.reserve(inodes); }
  void add(InodeRecord inode);
  void add(DirectoryRecord directory);
  /// Not gone, and nothing leads to it: no name, or, of a directory, no directory that holds it.
  bool is_nameless(const InodeRecord& inode);
  /// Sorts what was added out of order; look-ups do it, too.
  void sort();

  /// nullptr if there is no such inode, or it is gone.
  InodeRecord* find(BlockNo address);
  DirectoryRecord* find_directory(BlockNo address);
  std::vector<InodeRecord>& inodes() { return inodes_; }
  std::vector<DirectoryRecord>& directories() { return directories_; }

 private:
  std::vector<InodeRecord> inodes_;
  std::vector<DirectoryRecord> directories_;
  bool sorted_ = true;
};

}  // namespace corral::fsck
