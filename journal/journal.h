/// This node's journal: transactions, group commit, write-back in place (the AIL), revokes.
///
/// Life of a change: begin() reserves log space; Transaction::modify() changes blocks in memory; the transaction ends
/// when its object is destroyed. All transactions that ended since the last flush commit together with the next one:
///   1. no new transaction starts until the open ones have ended; the states of all changed blocks are set aside;
///   2. ordered file data that the transactions point to is written;
///   3. the log blocks (descriptors, block states, revokes) are written;
///   4. the device is flushed, then the log header is written through: now the set is committed.
/// After that the states are written in place in the background; when all of a flush's states are in place and the
/// device was flushed (step 4 of a later flush), the tail moves past it and its log space is free.
///
/// Rules for users: between begin() and the transaction's end nothing may be awaited but block reads (no glocks, no
/// other begin(), no flush): an open transaction holds up every commit. All blocks of one inode or resource group are
/// changed only under its exclusive glock. Freed blocks are not used again before the flush that frees them has
/// committed.
///
/// Failure: if the log cannot be written the journal fails for good: failed() is set, every later begin() and flush()
/// returns EIO, `on_failure` is told once (the filesystem withdraws).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "journal/block_cache.h"
#include "journal/journal_map.h"
#include "journal/log_format.h"
#include "journal/write_back.h"
#include "ondisk/layout.h"

namespace corral {

class Journal;

/// File data that must be on the disk before the transactions that point to it commit (data=ordered).
class OrderedData {
 public:
  virtual ~OrderedData() = default;
  /// Writes all data that transactions ended so far refer to; called once per commit it was named for.
  virtual Task<Result<>> write_ordered() = 0;

 private:
  friend class Journal;
  friend class Transaction;
  std::uint64_t ordered_in_ = 0;  ///< set of transactions that names it already
};

/// Upper bounds of what a transaction will change; exceeding them is a bug (checked).
struct TransactionSize {
  std::uint32_t blocks = 0;   ///< distinct blocks modified
  std::uint32_t revokes = 0;  ///< blocks freed with free_block()
};

/// A set of changes that is on the disk entirely or not at all after a crash. Ends when destroyed; there is no undo:
/// check everything that can fail before the first modify().
class [[nodiscard]] Transaction {
 public:
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  /// Bytes of the block for changing, logged with this transaction. The span is valid until the next co_await.
  std::span<std::byte> modify(Block& block);
  template <class T>
  T& modify_as(Block& block, std::size_t offset = 0) {
    return ondisk::view<T>(modify(block), offset);
  }
  /// The same for a block of a journaled-data file (no MetaHeader; escaped in the log where it looks like one).
  std::span<std::byte> modify_data(Block& block);
  /// The metadata (or journaled data) block is free from now on: its logged states are revoked, its cached bytes
  /// forgotten.
  void free_block(BlockNo number);
  /// `data` writes what this transaction points to before it commits. `data` must stay alive until the next flush is
  /// over (Journal::forget_ordered otherwise).
  void order(OrderedData& data);

 private:
  friend class Journal;
  Transaction(Journal& journal, TransactionSize size) : journal_(&journal), unused_(size) {}
  std::span<std::byte> add(Block& block, bool journaled_data);

  Journal* journal_;
  TransactionSize unused_;  ///< what is left of the bounds
};

/// Counters since the mount, for status and tests.
struct JournalCounters {
  std::uint64_t transactions = 0;
  std::uint64_t flushes = 0;
  std::uint64_t device_flushes = 0;
  std::uint64_t logged_blocks = 0;
  std::uint64_t revokes = 0;
  std::uint64_t written_in_place = 0;
  std::uint64_t waits_for_space = 0;
};

class Journal {
 public:
  struct Options {
    JournalId id;
    BlockNo inode;                 ///< block of the journal's dinode
    std::uint32_t head_block = 0;  ///< journal block at which the next flush begins
    std::uint64_t next_sequence = 1;
    Duration commit_interval = std::chrono::seconds(30);  ///< longest time a change stays uncommitted (commit=)
    /// Asked at every flush, when no transaction is open.
    std::function<LogHeaderExtras()> header_extras;
    /// Told when the journal fails.
    std::function<void(const Error&)> on_failure;
    /// Told after every commit, when committed_set() has moved; must not wait.
    std::function<void()> on_commit;
  };

  /// The journal must be clean (replayed). Everything given must outlive it.
  Journal(Executor& executor, BlockCache& cache, JournalMap map, Options options, Logger logger);
  ~Journal();

  /// Starts background commit and write-back.
  void start();

  /// Writes a header, so that the journal is no longer as after an orderly unmount: when this node dies, whoever
  /// replays it also looks for what the node had left to do, even if it had changed nothing yet.
  Task<Result<>> show_use();

  /// Waits for log space (and for a flush that is just setting states aside). EIO after failure; ENOSPC if `size` can
  /// never fit (callers split large jobs by max_transaction_blocks()).
  Task<Result<Transaction>> begin(TransactionSize size);
  std::uint32_t max_transaction_blocks() const;

  /// Commits all transactions that have ended; returns when they are stable. Concurrent callers share one flush.
  /// With nothing to commit it returns at once.
  Task<Result<>> flush();
  /// For fsync: like flush(), but flushes the device even when nothing is to be committed, so that file data written
  /// before the call is stable too. Concurrent callers share one flush.
  Task<Result<>> flush_with_device();
  /// Commits, writes everything committed in place and moves the tail past it: a replay would find nothing of what was
  /// changed before the call.
  Task<Result<>> empty_log();
  /// The same for what was changed under one owner, whose blocks nobody changes meanwhile: they are in their places,
  /// stable, and no replay of this journal would touch them. Afterwards another node may change them. Older changes of
  /// others go along, for the log is emptied from its old end; revokes of the owner's blocks alone would do, too, but
  /// cost more log blocks, and a list of all that the log holds.
  Task<Result<>> sync(const BlockOwner& owner);
  /// As GFS2 ends the journals of a frozen volume: commits, writes everything in place, then writes a header with which
  /// there is nothing to replay, in this journal or in a copy of it. Nobody may begin anything until thaw(). Nothing
  /// where it was frozen already.
  Task<Result<>> freeze();
  void thaw() { frozen_ = false; }
  bool frozen() const { return frozen_; }
  /// Commits and writes everything in place, then writes a header with no active entries (kLogHeadUnmount if
  /// `unmount`). The journal is then clean; after unmount nothing more may begin.
  Task<Result<>> shut_down(bool unmount);
  /// Nothing may be written any more (withdraw): like a failure, but `on_failure` is not told.
  void abandon();
  /// After abandon() or shut_down(): returns when the background work has ended.
  Task<void> stopped();
  /// The ordered data is about to go away (inode evicted): takes it out of the running set and waits for a commit that
  /// is writing it.
  Task<void> forget_ordered(OrderedData& data);

  /// Sequence of the running set of transactions: a change made now is committed once committed_set() >= running_set()
  /// as read while the transaction is open.
  std::uint64_t running_set() const { return running_set_; }
  std::uint64_t committed_set() const { return committed_set_; }
  bool failed() const { return failed_; }
  JournalId id() const { return options_.id; }
  const JournalCounters& counters() const { return counters_; }
  std::uint32_t free_log_blocks() const;

 private:
  friend class Transaction;

  /// What the transactions since the last flush have changed, together.
  struct RunningSet {
    std::vector<BlockRef> blocks;  ///< pinned ones; an entry whose block was freed again is null
    std::size_t metadata = 0;
    std::size_t journaled_data = 0;
    std::set<BlockNo> revokes;
    std::vector<OrderedData*> ordered;
    bool empty() const { return metadata + journaled_data == 0 && revokes.empty() && ordered.empty(); }
  };
  /// A set on its way to the log.
  struct Commit {
    std::uint64_t set = 0;
    std::vector<LoggedState> states;
    std::vector<BlockNo> revokes;
    std::vector<OrderedData*> ordered;
    LogHeaderExtras extras;
    std::uint32_t tail = 0;      ///< journal block where a replay must begin after this commit
    std::uint64_t tail_set = 0;  ///< the earliest set of transactions that it would find
  };

  bool fits(TransactionSize size) const;
  std::uint32_t running_log_blocks(TransactionSize more) const;
  void end(Transaction& transaction);
  Task<Result<>> commit_running_set(std::uint32_t header_flags);
  Task<Commit> set_aside();
  Task<Result<>> write_commit(Commit& commit, std::uint32_t header_flags);
  Task<Result<>> write_ordered();
  Task<Result<>> write_header(const LogHeaderExtras& extras, std::uint32_t block, std::uint32_t tail,
                              std::uint32_t flags);
  Task<Result<>> make_space();
  Task<Result<>> move_tail_past(std::uint64_t set);
  Task<Result<>> end_log(std::uint32_t header_flags);
  Task<Result<>> flush_device();
  Task<Result<>> flush_device_cache();
  std::uint32_t used_log_blocks() const;
  void check_failure(const Result<>& result);
  Task<void> run_committer();
  Task<void> run_write_back();

  Executor& executor_;
  BlockCache& cache_;
  Device& device_;
  const ondisk::Geometry& geometry_;
  JournalMap map_;
  Options options_;
  Logger logger_;
  WriteBack write_back_;

  RunningSet running_;
  std::uint64_t running_set_ = 1;
  std::uint64_t committed_set_ = 0;
  std::uint32_t open_transactions_ = 0;
  TransactionSize open_size_;  ///< what open transactions may still change
  bool setting_aside_ = false;

  std::uint32_t committing_log_blocks_ = 0;  ///< of the set on its way to the log, header included
  std::vector<OrderedData*> committing_ordered_;
  std::uint32_t head_ = 0;      ///< journal block of the next flush
  std::uint32_t tail_ = 0;      ///< journal block where replay would begin, as the last header says
  std::uint64_t tail_set_ = 1;  ///< the earliest set of transactions that a replay would find
  std::uint64_t sequence_ = 0;

  Mutex begin_turn_;       ///< those who wait for log space, in order
  Mutex flushing_;         ///< one commit at a time
  Mutex device_flushing_;  ///< one bare device flush at a time
  std::uint64_t device_flushes_started_ = 0;
  std::uint64_t device_flushes_done_ = 0;  ///< number of the last started one that has ended
  Signal drained_;                         ///< the last open transaction has ended
  Signal may_begin_;                       ///< a set was set aside, or space was freed, or the journal failed
  Event work_;                             ///< something waits to be committed
  Event space_wanted_;
  Event stop_;
  bool failed_ = false;
  bool stopped_ = false;
  bool frozen_ = false;
  JournalCounters counters_;
  Scope background_;
};

}  // namespace corral
