/// Operations within one block of dirents: a leaf, or the dinode of a directory that is not hashed. Pure: bytes in,
/// bytes out.
///
/// Every function takes the whole block, of a type already checked. The scans check the dirents; the changes are for
/// blocks that were scanned before and treat damage as a bug of the caller (checked). A leaf's own count of entries
/// follows each change; times and the dinode's fields are the caller's.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"
#include "fs/directory_entry.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral {

/// Calls `visit(const Dirent&)` for each dirent that stands for a name.
template <class Visit>
Result<> for_each_dirent(std::span<const std::byte> block, BlockNo address, Visit&& visit) {
  ondisk::DirentWalker walker(block, address);
  for (;;) {
    TRY(const ondisk::Dirent* dirent, walker.next());
    if (dirent == nullptr) return {};
    if (!ondisk::is_unused(*dirent)) visit(*dirent);
  }
}

DirectoryEntry entry_of(const ondisk::Dirent& dirent);

/// What a block holds, seen with one name in mind. Offsets are bytes from the block's start; 0: there is none.
struct DirentScan {
  std::uint32_t found = 0;       ///< the dirent with the name
  std::uint32_t before = 0;      ///< the dirent in front of it
  std::uint32_t used_bytes = 0;  ///< what the dirents need, without the gaps between them
  std::uint32_t entries = 0;
  /// The name fits, maybe after the gaps are closed.
  bool has_room = false;
};
Result<DirentScan> scan_dirents(std::span<const std::byte> block, BlockNo address, const HashedName& name);
/// The dirent with the name, or nullptr. Cheaper than a whole scan.
Result<const ondisk::Dirent*> find_dirent(std::span<const std::byte> block, BlockNo address, const HashedName& name);

/// Bytes for dirents in the block.
std::uint32_t dirent_capacity_bytes(std::span<const std::byte> block);

/// Adds a name for which scan_dirents found room. Closes the gaps between dirents if no gap is wide enough.
void insert_dirent(std::span<std::byte> block, const HashedName& name, const DirectoryEntry& entry);
/// Removes a name that is there.
void remove_dirent(std::span<std::byte> block, const HashedName& name);
/// Lets a name that is there stand for another inode.
void replace_dirent(std::span<std::byte> block, const HashedName& name, const DirectoryEntry& entry);

/// Makes the dinode block of a stuffed directory hold no dirents.
void initialize_stuffed_dirents(std::span<std::byte> dinode);
/// Makes a leaf without entries of a new block.
void initialize_leaf(std::span<std::byte> block, BlockNo directory, std::uint32_t depth, std::uint32_t distance);
/// Copies all dirents of a stuffed directory's dinode into an empty leaf.
void copy_dirents_to_leaf(std::span<std::byte> leaf, std::span<const std::byte> dinode);
/// Moves the dirents with hashes less than `divider` from one leaf to an empty one.
void move_lower_dirents(std::span<std::byte> upper, std::span<std::byte> lower, std::uint32_t divider);

/// BlockCheck for leaves: the header, every dirent and its hash, and the leaf's count of entries.
Result<> check_leaf_block(std::span<const std::byte> block, BlockNo address, const ondisk::Geometry& geometry);

}  // namespace corral
