/// Visits every block that an inode refers to: its tree, a directory's table and leaves, its extended attributes. What
/// becomes of each pointer is a policy's business, so that claiming, separating, counting and freeing share one walk.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fsck/volume.h"

namespace corral::fsck {

enum class PointerKind : std::uint8_t { indirect, table, data, leaf, ea_indirect, ea_block, ea_data };

constexpr Use use_of(PointerKind kind) {
  return kind == PointerKind::data ? Use::data : Use::metadata;
}

/// A block pointer that is not 0.
struct Pointer {
  BlockNo block;
  PointerKind kind;
  /// The block that holds it is a copy made by this walk.
  bool below_copy = false;
};

struct Ruling {
  enum class Verdict : std::uint8_t {
    keep,
    stop,  ///< keep, but look at nothing below it
    drop,  ///< it cannot be right
    copy,  ///< the inode gets a copy of the block at `place`
  };
  Verdict verdict = Verdict::keep;
  BlockNo place{};
  bool fresh = false;  ///< nobody had claimed the block before
};

class WalkPolicy {
 public:
  virtual ~WalkPolicy() = default;
  virtual Ruling rule(const Pointer& pointer) = 0;
  /// The block turned out not to be what the pointer needs.
  virtual void refuse(const Pointer&, const Ruling&) {}
  /// Each sound dirent, "." and ".." too.
  virtual void see_entry(const ondisk::Dirent&) {}
  /// A block of dirents, sound as far as the walk can tell: a leaf, or the dinode of a stuffed directory.
  /// `starts_names`: no name in it can also stand in a block seen before. True: the bytes were changed and are to be
  /// written.
  virtual bool see_dirent_block(BlockNo, std::span<std::byte>, bool /*starts_names*/) { return false; }
  /// False: nothing is found, asked or changed by the walk itself.
  virtual bool repairs() const { return false; }
};

class InodeWalk {
 public:
  /// `dinode` passed check_dinode(); the walk may change it and says so. All outlive the walk.
  InodeWalk(Volume& volume, BlockNo inode, std::span<std::byte> dinode, WalkPolicy& policy)
      : volume_(volume), inode_(inode), dinode_(dinode), policy_(policy) {}

  /// Fails only where the device does.
  Task<Result<>> run();

  bool dinode_changed() const { return dinode_changed_; }
  /// Blocks of the inode, its dinode included.
  std::uint64_t blocks() const { return blocks_; }
  /// Some part was not looked at, because the policy said so: blocks() is too small.
  bool stopped() const { return stopped_; }
  /// Pointers of the tree that lead nowhere.
  std::uint64_t bad_pointers() const { return bad_pointers_; }
  /// What is wrong with a directory's structure, if anything: the first such thing.
  const std::optional<std::string>& directory_fault() const { return directory_fault_; }
  /// A directory's blocks that this walk has come upon first.
  const std::vector<BlockNo>& directory_blocks() const { return directory_blocks_; }

 private:
  struct Holder {
    BlockNo block;
    std::span<std::byte> bytes;
    std::size_t header_bytes;
    bool below_copy;
  };
  struct LeafPlace {
    BlockNo block;
    std::uint32_t first_slot;
    std::uint32_t slots;
    bool first_of_chain;
  };

  ondisk::Dinode& dinode() const { return ondisk::view<ondisk::Dinode>(dinode_); }
  bool is_directory() const;
  void fault(std::string text);
  Task<Result<bool>> walk_pointers(Holder holder, std::uint32_t height);
  Task<Result<bool>> follow(Pointer pointer, Ruling ruling, std::uint32_t height);
  Task<Result<BlockBytes>> content(const Pointer& pointer, const Ruling& ruling);
  bool mend_header(BlockBytes& bytes, BlockNo block, PointerKind kind);

  Task<Result<>> walk_leaves();
  Task<Result<>> walk_chain(BlockNo first, std::uint32_t slot, std::uint32_t run);
  bool check_leaf_place(std::span<const std::byte> bytes, const LeafPlace& place);
  bool see_dirents(std::span<const std::byte> block, BlockNo address, const LeafPlace* place);
  std::span<const ondisk::be64> slots() const;

  Task<Result<>> walk_attributes();
  Task<Result<>> walk_ea_block(Pointer pointer, Ruling ruling, bool& keep);
  Task<Result<bool>> walk_ea_record(std::span<std::byte> bytes, std::size_t place, bool below_copy, bool& changed);

  Volume& volume_;
  BlockNo inode_;
  std::span<std::byte> dinode_;
  WalkPolicy& policy_;
  bool dinode_changed_ = false;
  std::uint64_t blocks_ = 1;
  std::uint64_t bad_pointers_ = 0;
  bool stopped_ = false;
  std::optional<std::string> directory_fault_;
  std::vector<BlockNo> directory_blocks_;
  BlockBytes table_;
};

}  // namespace corral::fsck
