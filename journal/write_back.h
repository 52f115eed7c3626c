/// Writing committed block states to their places (GFS2's AIL): what keeps the log's tail moving.
///
/// Every flush that committed states makes a Checkpoint. A state that is committed again before it was written in place
/// moves to the newer checkpoint. A checkpoint whose states are all in place is done; the tail may move to the oldest
/// one that is not done once the device was flushed.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "journal/block_cache.h"
#include "journal/log_format.h"

namespace corral {

/// The states that one flush committed.
struct Checkpoint {
  std::uint64_t set = 0;
  std::uint32_t log_block = 0;   ///< where its log blocks begin: the tail while it is the oldest
  std::vector<BlockRef> blocks;  ///< as committed; those whose checkpoint is another by now do not count
  std::size_t outstanding = 0;   ///< blocks whose newest committed state is this one's and not in place
};

class WriteBack {
 public:
  WriteBack(Executor& executor, BlockCache& cache);
  ~WriteBack();

  /// The states have just been committed from log block `log_block` on.
  void add(std::uint64_t set, std::uint32_t log_block, std::vector<LoggedState> states);
  /// The block was freed: its states are not written any more.
  void forget(Block& block);
  /// Log block of the oldest checkpoint that is not done, or nullopt if all are.
  std::optional<std::uint32_t> tail();
  /// Set of the oldest checkpoint that is not done, or nullopt if all are.
  std::optional<std::uint64_t> oldest_set();
  /// Writes the states of checkpoints up to `last_set`, oldest first, in disk order within a batch; those being written
  /// already are waited for. Not flushed. The first device error ends it.
  Task<Result<>> write(std::uint64_t last_set);
  /// Waits until no freed block is being written: before a commit that lets freed blocks be used again.
  Task<void> freed_written();
  /// Forgets everything, unwritten (the journal has failed).
  void abandon();

  std::uint64_t written() const { return written_; }
  /// Checkpoints that are not done.
  std::size_t outstanding() const { return checkpoints_.size(); }

 private:
  struct Write {
    BlockRef block;
    BlockBytesRef state;
  };
  std::vector<Write> next_batch(std::uint64_t last_set);
  Task<void> write_run(std::vector<Write> run, Result<>& result);
  void in_place(Block& block, const BlockBytesRef& state);
  void pop_done();

  Executor& executor_;
  BlockCache& cache_;
  std::deque<std::unique_ptr<Checkpoint>> checkpoints_;
  Signal progress_;
  std::uint64_t freed_writing_ = 0;
  std::uint64_t written_ = 0;
};

}  // namespace corral
