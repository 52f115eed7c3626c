/// The cache of metadata blocks (and journaled file data): one Block object per cached block of the volume.
///
/// A Block's bytes are read by anyone who holds the lock that protects it; they are changed only through
/// Transaction::modify(), which hands out a private copy while an older state is still on its way to the log or to its
/// place on the disk (copy on write). So a write in flight never sees half a change, and the state that was committed
/// can be written in place while a later, uncommitted change already stands in memory.
///
/// Every block belongs to a BlockOwner: the glock under which it was read. When the glock goes, its blocks go.
/// Clean blocks that nobody refers to are dropped, least recently used first, when the cache is over its limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include "base/result.h"
#include "base/strong.h"
#include "base/sync.h"
#include "base/task.h"
#include "disk/device.h"
#include "journal/block_buffer.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral {

class BlockCache;
class Journal;
class Transaction;

/// One state of a block's bytes; shared by the block and by writes in flight.
struct BlockBytes : boost::intrusive_ref_counter<BlockBytes, boost::thread_unsafe_counter> {
  explicit BlockBytes(std::size_t size) : buffer(size) {}
  BlockBuffer buffer;
};
using BlockBytesRef = boost::intrusive_ptr<BlockBytes>;

struct Checkpoint;
struct OwnerTag;
struct UnusedTag;
using BlockHook = boost::intrusive::link_mode<boost::intrusive::safe_link>;

/// A cached block. Held by BlockRef; lives on in the cache when the last reference goes.
class Block : public boost::intrusive::list_base_hook<boost::intrusive::tag<OwnerTag>, BlockHook>,
              public boost::intrusive::list_base_hook<boost::intrusive::tag<UnusedTag>, BlockHook> {
 public:
  BlockNo number() const { return number_; }
  std::span<const std::byte> bytes() const { return bytes_->buffer.span(); }
  /// The structure at `offset` of the block; the block's validity was checked when it was read.
  template <class T>
  const T& as(std::size_t offset = 0) const {
    return ondisk::view<T>(bytes(), offset);
  }
  /// True while a change of it is not yet in the log.
  bool pinned() const { return pinned_; }
  /// True while the log holds a state of it that is not yet in its place.
  bool in_log() const { return committed_ != nullptr; }

 private:
  friend class BlockCache;
  friend class Journal;
  friend class Transaction;
  friend class WriteBack;
  friend void intrusive_ptr_add_ref(Block* block);
  friend void intrusive_ptr_release(Block* block);

  Block(BlockCache& cache, BlockNo number) : cache_(cache), number_(number) {}
  bool clean() const { return !pinned_ && committed_ == nullptr && logging_ == 0 && writing_ == 0; }

  BlockCache& cache_;
  BlockNo number_;
  class BlockOwner* owner_ = nullptr;  ///< null once the block was freed or discarded: forgotten by the cache
  std::uint32_t references_ = 0;
  bool valid_ = false;             ///< bytes_ hold the block's contents
  bool reading_ = false;           ///< a read is under way; others wait for it
  bool pinned_ = false;            ///< changed by the running set of transactions
  bool journaled_data_ = false;    ///< file data: no MetaHeader, escaped in the log
  std::size_t running_index_ = 0;  ///< while pinned: its place in the running set
  std::uint32_t logging_ = 0;      ///< flushes under way that log a state of it
  std::uint32_t writing_ = 0;      ///< writes in place under way, at most 1
  Result<> (*checked_by_)(std::span<const std::byte>, BlockNo, const ondisk::Geometry&) = nullptr;
  BlockBytesRef bytes_;
  BlockBytesRef committed_;           ///< newest committed state not yet in its place
  Checkpoint* checkpoint_ = nullptr;  ///< the flush that committed it
};
using BlockRef = boost::intrusive_ptr<Block>;
void intrusive_ptr_add_ref(Block* block);
void intrusive_ptr_release(Block* block);

/// What one glock protects in the cache. The blocks must be dropped (BlockCache::drop) before it is destroyed.
class BlockOwner {
 public:
  BlockOwner() = default;
  BlockOwner(const BlockOwner&) = delete;
  BlockOwner& operator=(const BlockOwner&) = delete;
  virtual ~BlockOwner() { CHECK_INVARIANT(blocks_.empty()); }
  bool empty() const { return blocks_.empty(); }
  /// Who it is, for messages ("inode 1234").
  virtual std::string describe() const { return "somebody else"; }

 protected:
  /// The last block has gone; the owner may destroy itself.
  virtual void emptied() {}

 private:
  friend class BlockCache;
  friend class Journal;
  friend class Transaction;
  std::uint64_t logged_in_ = 0;  ///< last set of transactions that changed one of the blocks; 0: none
  boost::intrusive::list<
      Block, boost::intrusive::base_hook<boost::intrusive::list_base_hook<boost::intrusive::tag<OwnerTag>, BlockHook>>>
      blocks_;
};

/// Checks a block when it comes from the device (ondisk::check_dinode and its like); an error is of kind corrupt and
/// names the block.
using BlockCheck = Result<> (*)(std::span<const std::byte>, BlockNo, const ondisk::Geometry&);
/// For blocks of data, of which nothing can be wrong by itself.
inline Result<> accept_data(std::span<const std::byte>, BlockNo, const ondisk::Geometry&) {
  return {};
}

class BlockCache {
 public:
  /// `limit_bytes` bounds the memory of clean blocks; dirty ones are bounded by the journal's size.
  BlockCache(Executor& executor, Device& device, const ondisk::Geometry& geometry, std::uint64_t limit_bytes);
  ~BlockCache();

  /// The block's contents, from the cache or the device, checked by `check` when read from the device.
  /// `owner` is the lock under which it is read: a block has one owner at a time. Suspends on a miss.
  Task<Result<BlockRef>> read(BlockOwner& owner, BlockNo number, BlockCheck check);
  /// Starts reads of blocks that are not cached, many at a time; errors show when the block is read. Does not wait.
  struct Wanted {
    BlockOwner* owner;  ///< lives as long as blocks are cached under it
    BlockNo number;
  };
  void read_ahead(std::vector<Wanted> wanted, BlockCheck check);
  void read_ahead(BlockOwner& owner, std::span<const BlockNo> numbers, BlockCheck check);
  /// A block that was just allocated: zero bytes, nothing read. Must be given contents in the same transaction.
  BlockRef create(BlockOwner& owner, BlockNo number);
  /// True while somebody refers to the block's contents, or a state of it is not in its place yet: such a block is not
  /// free, whatever the bitmap says.
  bool in_use(BlockNo number) const;
  /// The owner's cached block, or null: a leftover of what the block was before is nothing. Never reads.
  BlockRef find(const BlockOwner& owner, BlockNo number);
  /// True if the block is in memory or being read.
  bool contains(BlockNo number) const { return blocks_.contains(number); }
  /// Drops the owner's blocks; none may be pinned or in the log (Journal::sync(owner) sees to that), none referenced.
  void drop(BlockOwner& owner);
  /// The same, after reads ahead of its blocks have ended.
  Task<void> release(BlockOwner& owner);
  /// Other nodes change the volume, too: a block that nobody uses, found under another owner than the one who reads it,
  /// is taken for a leftover (of an inode that another node has freed since) and read anew, not for damage.
  void set_shared(bool shared) { shared_ = shared; }
  /// The block was written past the cache: drops it if it is cached. False if it is in use.
  bool forget_clean(BlockNo number);
  /// Drops clean, unreferenced blocks of all owners.
  void drop_clean();
  /// Forgets everything without writing, after a withdraw or when a mount ends. Blocks still referenced live on,
  /// forgotten.
  void discard_all();
  /// Waits for reads ahead that are under way; before the cache is destroyed.
  Task<void> quiesce();

  const ondisk::Geometry& geometry() const { return geometry_; }
  Device& device() { return device_; }
  std::uint64_t cached_bytes() const { return blocks_.size() * geometry_.block_size(); }
  std::uint64_t limit_bytes() const { return limit_bytes_; }
  void set_limit_bytes(std::uint64_t limit_bytes);

 private:
  friend class Journal;
  friend class Transaction;
  friend class WriteBack;
  friend void intrusive_ptr_add_ref(Block* block);
  friend void intrusive_ptr_release(Block* block);

  Block& insert(BlockOwner& owner, BlockNo number);
  /// Takes the block out of the cache; the object lives until its last reference goes.
  void forget(Block& block);
  /// Nobody refers to the block any more, or it has become clean: keep it for later or let it go.
  void settle(Block& block);
  void shrink();
  Result<> check(Block& block, const BlockOwner& owner, BlockCheck check) const;
  Task<Result<>> fill(BlockRef block, BlockCheck check);
  Task<void> fill_run(std::vector<BlockRef> blocks, BlockCheck check);

  Device& device_;
  const ondisk::Geometry& geometry_;
  std::uint64_t limit_bytes_;
  bool shared_ = false;
  std::unordered_map<BlockNo, Block*> blocks_;
  boost::intrusive::list<
      Block, boost::intrusive::base_hook<boost::intrusive::list_base_hook<boost::intrusive::tag<UnusedTag>, BlockHook>>>
      unused_;  ///< unreferenced, least recently used first
  Signal read_done_;
  Scope background_;
};

}  // namespace corral
