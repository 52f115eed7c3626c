/// Data of one inode's file that was written but is not on the disk yet, and its way there.
///
/// Dirty blocks lie in chunks: blocks that follow each other in the file and on the device, in memory that goes to the
/// device as it is. A chunk is in one of two sets: waiting (may be changed in place) or being written (may not: a
/// change of its blocks makes a new waiting chunk, which is written after it). So reads take a block from the waiting
/// chunks, else from those being written, else from the disk.
///
/// A write that fails leaves its chunk here, and every write_back() tries again and fails until the data is on the disk
/// or is dropped.
///
/// Ordered data: a chunk whose blocks were allocated by transactions that have not committed, or that such transactions
/// brought within the file's size, is written before they commit. Where that fails, also when tried once more, the
/// commit fails and the filesystem withdraws: the file would show, to other nodes and after a crash to this one, what
/// the device held there before, which may have been somebody else's.
///
/// Shared by the Inode, which stays in memory as long as it has one, and by the coroutines at work on it. The Inode
/// lets go of it when it is empty and no commit to come names it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <boost/intrusive/list_hook.hpp>

#include "base/aligned_buffer.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/strong.h"
#include "base/sync.h"
#include "base/task.h"
#include "fs/inode.h"
#include "fs/tree_node.h"
#include "journal/journal.h"

namespace corral {

class WriteOut;

/// Writes that somebody waits for, straight from memory of his; shared so that it survives him.
struct PendingWrites {
  explicit PendingWrites(Executor& executor) : changed(executor) {}
  std::size_t count = 0;
  std::optional<Error> error;
  Signal changed;
};

struct DirtyChunk {
  std::uint64_t first = 0;  ///< file block
  std::uint32_t blocks = 0;
  std::uint32_t capacity_blocks = 0;  ///< of the buffer
  BlockNo start;                      ///< device block of `first`
  AlignedBuffer buffer;
  const std::byte* contents = nullptr;     ///< the buffer, or other memory for PendingWrites; null: zeros
  std::shared_ptr<PendingWrites> pending;  ///< set if somebody waits for this very write
  std::uint64_t number = 0;                ///< in order of making
  /// Earliest set of transactions that allocated one of its blocks, or moved the file's end over them; 0: none that
  /// could still be uncommitted.
  std::uint64_t allocated_in = 0;
  Time since;
  bool failed = false;  ///< its last write failed: tried again only by write_back() and write_ordered()

  std::uint64_t end() const { return first + blocks; }
  FileRange range() const { return {first, end()}; }
};

class DirtyData final
    : public OrderedData,
      public std::enable_shared_from_this<DirtyData>,
      public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  DirtyData(WriteOut& write_out, Inode& inode);
  ~DirtyData() override;

  bool empty() const { return waiting_.empty() && writing_.empty(); }
  Inode& inode() const { return inode_; }
  std::uint64_t waiting_bytes() const { return waiting_bytes_; }

  /// Memory for 1 to `wanted` blocks from file block `block` on, whose place on the device begins at `device_block`.
  /// Fresh memory holds nothing of use and must be filled wholly at once; other memory holds the blocks' contents.
  struct Slot {
    std::span<std::byte> bytes;
    std::uint32_t blocks = 0;
    bool fresh = false;
  };
  Slot slot(FileBlock block, BlockNo device_block, std::uint64_t wanted, std::uint64_t allocated_in);

  /// The transaction, still open, points to data here that it allocated blocks for.
  void order(Transaction& transaction);

  /// What is known here of 1 to `wanted` blocks: their bytes (until the next co_await), or null if the disk has them.
  struct Piece {
    const std::byte* bytes = nullptr;
    std::uint64_t blocks = 0;
  };
  Piece piece(FileBlock block, std::uint64_t wanted) const;

  /// Starts writing blocks straight from `contents` (null: zeros), which stays valid until `pending` says that it is
  /// over. Nothing else may be held for the range. A failure stays here as failed chunks if the blocks are new
  /// (allocated_in not 0), so that they do not show what the device held before.
  void write_through(FileBlock first, BlockNo start, std::uint64_t blocks, const std::byte* contents,
                     std::uint64_t allocated_in, std::shared_ptr<PendingWrites> pending);

  /// Which waiting chunks to begin writing.
  struct Choice {
    FileRange range = {0, ~std::uint64_t{0}};
    std::uint64_t number_below = ~std::uint64_t{0};
    Time since_before = Time::max();
    bool only_ordered = false;
    bool only_full = false;  ///< those that will not grow any more
  };
  void start(const Choice& choice);

  /// Writes what is dirty in the range now, and waits. An error stays until the data is written or dropped.
  Task<Result<>> write_back(FileRange range = {0, ~std::uint64_t{0}});
  Task<Result<>> write_ordered() override;
  /// Forgets the range; writes in flight there are waited for. What a commit under way still needs is written.
  Task<void> drop(FileRange range);
  /// Forgets everything at once, unwritten, and leaves the inode: the mount ends.
  void abandon();
  /// When the oldest chunk that is worth writing by age became dirty.
  std::optional<Time> oldest() const;

 private:
  friend class WriteOut;
  /// Held by whoever is at work here; the last one to go lets the inode go, too.
  struct Use {
    explicit Use(DirtyData& dirty) : inode(&dirty.inode_), data(dirty.shared_from_this()) {}
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() { data->leave_if_done(); }
    InodeRef inode;
    std::shared_ptr<DirtyData> data;
  };
  using Chunks = std::map<std::uint64_t, DirtyChunk>;

  static Chunks::const_iterator first_touching(const Chunks& chunks, FileRange range);
  static bool touches(const Chunks& chunks, FileRange range) { return first_touching(chunks, range) != chunks.end(); }
  bool chosen(const DirtyChunk& chunk, const Choice& choice) const;
  /// True while a chosen chunk waits or is being written.
  bool under_way(const Choice& choice) const;
  /// Starts and waits until nothing chosen is left but failures.
  Task<void> write(Choice choice);
  DirtyChunk& add_chunk(std::uint64_t first, BlockNo start, std::uint32_t blocks, std::uint32_t capacity_blocks,
                        std::uint64_t allocated_in);
  /// The waiting chunk loses the range.
  void cut(Chunks::iterator place, FileRange range);
  bool needed_by_commit(const DirtyChunk& chunk) const;
  /// Every change of how much waits goes through here.
  void count_waiting(std::uint64_t more_blocks, std::uint64_t less_blocks);

  /// For WriteOut: the memory of the chunks being written in the range, and the end of their write.
  std::vector<WriteSpan> spans(FileRange range) const;
  BlockNo device_block(FileRange range) const { return writing_.at(range.first).start; }
  void finish(FileRange range, const Result<>& result);

  void keep_failed(DirtyChunk chunk);
  void leave_if_done();

  WriteOut& write_out_;
  Inode& inode_;
  Chunks waiting_;
  Chunks writing_;
  std::uint64_t waiting_bytes_ = 0;
  std::uint64_t stream_at_bytes_ = 0;   ///< waiting bytes at which WriteOut starts writing of this inode
  std::optional<Error> error_;          ///< of the last write that failed
  std::optional<Error> ordered_error_;  ///< since write_ordered() began, of the last that a commit needs
  Signal changed_;                      ///< a write has ended
  std::uint64_t named_in_ = 0;          ///< last set of transactions that names this
  std::uint32_t names_ = 0;             ///< commits to come that will call write_ordered()
};

}  // namespace corral
