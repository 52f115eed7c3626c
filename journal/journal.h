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
  Transaction(Journal& journal, TransactionSize size) : journal_(&journal), size_(size) {}
  std::span<std::byte> add(Block& block, bool journaled_data);

  Journal* journal_;
  TransactionSize size_;
  TransactionSize used_;
};

/// What the filesystem adds to each log header (struct gfs2_log_header, fields from lh_statfs_addr on).
struct LogHeaderExtras {
  BlockNo statfs_inode;
  BlockNo quota_inode;
  std::int64_t local_total = 0;
  std::int64_t local_free = 0;
  std::int64_t local_dinodes = 0;
};

/// Counters since the mount, for status and tests.
struct JournalCounters {
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
  };

  /// The journal must be clean (replayed). Everything given must outlive it.
  Journal(Executor& executor, BlockCache& cache, JournalMap map, Options options, Logger logger);
  ~Journal();

  /// Starts background commit and write-back.
  void start();

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
  /// Commits, then writes every logged state of the owner's blocks in place and makes that stable, then revokes them
  /// (another node may change them next, and this journal's replay must not undo that). For giving up a glock.
  Task<Result<>> sync(BlockOwner& owner);
  /// Commits and writes everything in place, then writes a header with no active entries (kLogHeadUnmount if
  /// `unmount`). The journal is then clean; after unmount nothing more may begin.
  Task<Result<>> shut_down(bool unmount);
  /// The ordered data goes away (inode evicted): removes it from the running set.
  void forget_ordered(OrderedData& data);

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
  Options options_;
  JournalCounters counters_;
  std::uint64_t running_set_ = 1;
  std::uint64_t committed_set_ = 0;
  bool failed_ = false;
};

}  // namespace corral
