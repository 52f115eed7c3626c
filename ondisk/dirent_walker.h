/// Walks the dirents (struct gfs2_dirent) of one block: a leaf, or the dinode of a directory that is not hashed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "base/strong.h"
#include "ondisk/layout.h"

namespace corral::ondisk {

/// True for the place holder that an emptied block begins with; it has no name and no inode.
inline bool is_unused(const Dirent& dirent) {
  return dirent.inum.addr == 0 || dirent.inum.formal_ino == 0;
}

inline std::string_view name_of(const Dirent& dirent) {
  return {dirent.name(), dirent.name_length};
}

/// Where the dirents of a leaf or a dinode (checked to be one of them) begin.
std::size_t first_dirent_bytes(std::span<const std::byte> block);

/// Takes the dirent at `offset` out of a block of sound ones: the one at `before` reaches over it, or, where it is the
/// first (`before` is 0), it stays as a place holder. A leaf's count of entries is the caller's.
void remove_dirent(std::span<std::byte> block, std::size_t before, std::size_t offset);

/// Gives the dirents in order, each checked before it is given: it lies within the block, its length is a multiple of 8
/// and holds its name of 1 to 255 bytes, and only the first may be unused. So records neither overlap nor reach beyond
/// the block, whatever the bytes are; the last one ends with the block. Does not suspend, does not own the block.
class DirentWalker {
 public:
  /// `block` is of a type already checked: a leaf or a dinode.
  DirentWalker(std::span<const std::byte> block, BlockNo address);

  /// The next dirent, or nullptr behind the last one. After an error the walk is over.
  Result<const Dirent*> next();
  /// Where in the block the dirent last given begins, and the one before it (0 if it was the first).
  std::size_t offset_bytes() const { return current_; }
  std::size_t previous_offset_bytes() const { return previous_; }

 private:
  Result<> check(const Dirent& dirent) const;

  std::span<const std::byte> block_;
  BlockNo address_;
  std::size_t first_;
  std::size_t next_;
  std::size_t current_ = 0;
  std::size_t previous_ = 0;
};

}  // namespace corral::ondisk
