/// Where an inode's extended attributes lie: the blocks of type ea_block that di_eattr leads to, straight or through an
/// indirect block (kDinodeEaIndirect), read and checked; and a change of one attribute in them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "fs/allocator.h"
#include "fs/attribute_block.h"
#include "fs/extended_attributes.h"
#include "fs/inode.h"
#include "fs/volume.h"

namespace corral {

/// An attribute and where it is: the place in AttributeFork::blocks and among the block's attributes.
struct FoundAttribute {
  std::size_t block;
  std::size_t place;
  StoredAttribute attribute;
};

/// The attribute blocks of one locked inode. Errors are corrupt ones that name the inode.
class AttributeFork {
 public:
  /// Suspends for reading, nothing else: may be awaited within a transaction.
  static Task<Result<AttributeFork>> read(Volume& volume, std::uint32_t fs_format, const LockedInode& inode);

  const std::vector<BlockRef>& blocks() const { return blocks_; }
  /// Null unless the inode has one.
  const BlockRef& indirect() const { return indirect_; }
  Result<std::vector<StoredAttribute>> attributes_in(std::size_t block) const;
  Result<std::size_t> bytes_in(std::size_t block) const;
  Result<std::optional<FoundAttribute>> find(AttributeName name) const;
  /// Reads the blocks that hold a value.
  Task<Result<std::vector<BlockRef>>> value_blocks(const FoundAttribute& found) const;
  Task<Result<std::vector<std::byte>>> value(const FoundAttribute& found) const;

 private:
  AttributeFork(Volume& volume, std::uint32_t fs_format, const LockedInode& inode)
      : volume_(&volume), fs_format_(fs_format), inode_(&inode) {}
  Task<Result<>> read_indirect(BlockNo address);
  Task<Result<BlockRef>> read_one(BlockNo address, BlockNo holder, BlockCheck check) const;
  Error within_inode(const Error& error) const;

  Volume* volume_;
  std::uint32_t fs_format_;
  const LockedInode* inode_;
  BlockRef indirect_;
  std::vector<BlockRef> blocks_;
};

/// One change of one attribute: planned without changing anything, then carried out in one transaction.
class AttributeUpdate {
 public:
  AttributeUpdate(Volume& volume, Allocator& allocator, const LockedInode& inode, const AttributeFork& fork)
      : volume_(volume), allocator_(allocator), inode_(inode), fork_(fork) {}

  /// Adds the attribute, or lets it take the place of an old one. `value` stays valid until it returns.
  Task<Result<>> put(AttributeName name, std::span<const std::byte> value, std::optional<FoundAttribute> old);
  Task<Result<>> remove(FoundAttribute old);

 private:
  /// A block and what is to stand in it.
  struct Rewrite {
    BlockRef block;
    std::vector<StoredAttribute> attributes;
  };

  Result<> choose_place(StoredAttribute added);
  Result<> take_out_old();
  Task<Result<>> carry_out();
  Task<Result<>> lock_space();
  Result<> apply(Transaction& transaction);
  Result<std::vector<BlockNo>> take_blocks(Transaction& transaction, std::uint32_t count);
  Result<> write_new_value_blocks(Transaction& transaction);
  void write_value_part(Transaction& transaction, Block& block, std::size_t index) const;
  Result<> add_block(Transaction& transaction);

  Volume& volume_;
  Allocator& allocator_;
  const LockedInode& inode_;
  const AttributeFork& fork_;

  std::optional<FoundAttribute> old_;
  std::span<const std::byte> value_;
  std::vector<Rewrite> rewrites_;
  /// Where the added attribute stands in rewrites_; nothing when it goes to a block of its own, or none is added.
  struct Place {
    std::size_t rewrite;
    std::size_t attribute;
  };
  std::optional<Place> added_at_;
  std::optional<StoredAttribute> in_new_block_;
  bool needs_indirect_ = false;
  std::uint32_t new_value_blocks_ = 0;
  std::vector<BlockRef> kept_value_blocks_;
  std::vector<BlockNo> freed_;
  std::optional<Allotment> allotment_;
  std::optional<Release> release_;
  std::uint32_t blocks_added_ = 0;
};

}  // namespace corral
