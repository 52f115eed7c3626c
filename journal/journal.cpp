#include "journal/journal.h"

#include <algorithm>

#include "base/planted_bug.h"

namespace corral {

namespace {
/// Log blocks never given to transactions, so that a header that moves the tail always fits.
constexpr std::uint32_t kSpareLogBlocks = 8;
}  // namespace

Journal::Journal(Executor& executor, BlockCache& cache, JournalMap map, Options options, Logger logger)
    : executor_(executor),
      cache_(cache),
      device_(cache.device()),
      geometry_(cache.geometry()),
      map_(std::move(map)),
      options_(std::move(options)),
      logger_(std::move(logger)),
      write_back_(executor, cache),
      head_(options_.head_block),
      tail_(options_.head_block),
      sequence_(options_.next_sequence),
      begin_turn_(executor),
      flushing_(executor),
      device_flushing_(executor),
      drained_(executor),
      may_begin_(executor),
      work_(executor),
      space_wanted_(executor),
      stop_(executor),
      background_(executor) {
  CHECK_INVARIANT(head_ < map_.size_blocks());
}

Journal::~Journal() {
  for (BlockRef& block : running_.blocks) {
    if (block != nullptr) block->pinned_ = false;
  }
}

void Journal::start() {
  background_.spawn(run_committer());
  background_.spawn(run_write_back());
}

Task<Result<>> Journal::show_use() {
  Mutex::Guard guard = co_await flushing_.lock();
  co_return co_await commit_running_set(ondisk::kLogHeadFlushNormal);
}

std::uint32_t Journal::max_transaction_blocks() const {
  return map_.size_blocks() / 4;
}

std::uint32_t Journal::used_log_blocks() const {
  return (head_ + map_.size_blocks() - tail_) % map_.size_blocks();
}

std::uint32_t Journal::free_log_blocks() const {
  std::uint32_t taken = used_log_blocks() + committing_log_blocks_ + running_log_blocks({});
  return taken + kSpareLogBlocks >= map_.size_blocks() ? 0 : map_.size_blocks() - kSpareLogBlocks - taken;
}

std::uint32_t Journal::running_log_blocks(TransactionSize more) const {
  // Blocks not yet chosen count as journaled data, whose descriptors hold the fewest.
  return log_blocks_for(geometry_, running_.metadata, running_.journaled_data + open_size_.blocks + more.blocks,
                        running_.revokes.size() + open_size_.revokes + more.revokes) +
         1;
}

bool Journal::fits(TransactionSize size) const {
  return used_log_blocks() + committing_log_blocks_ + running_log_blocks(size) + kSpareLogBlocks < map_.size_blocks();
}

Task<Result<Transaction>> Journal::begin(TransactionSize size) {
  if (log_blocks_for(geometry_, 0, size.blocks, size.revokes) > max_transaction_blocks()) {
    co_return fail(ENOSPC, "journal {}: a transaction of {} blocks and {} revokes does not fit its {} blocks",
                   options_.id.value, size.blocks, size.revokes, map_.size_blocks());
  }
  Mutex::Guard turn = co_await begin_turn_.lock();
  for (;;) {
    if (failed_ || stopped_) co_return fail(EIO);
    if (!setting_aside_) {
      if (fits(size)) break;
      ++counters_.waits_for_space;
      space_wanted_.set();
    }
    co_await may_begin_.wait();
  }
  CHECK_INVARIANT(!frozen_);
  ++open_transactions_;
  ++counters_.transactions;
  open_size_.blocks += size.blocks;
  open_size_.revokes += size.revokes;
  co_return Transaction(*this, size);
}

void Journal::end(Transaction& transaction) {
  open_size_.blocks -= transaction.unused_.blocks;
  open_size_.revokes -= transaction.unused_.revokes;
  if (--open_transactions_ == 0) drained_.notify_all();
  if (running_.empty()) return;
  if (!work_.is_set()) work_.set();
  if (running_log_blocks({}) > map_.size_blocks() / 3) space_wanted_.set();
}

Task<void> Journal::forget_ordered(OrderedData& data) {
  std::erase(running_.ordered, &data);
  data.ordered_in_ = 0;
  while (std::ranges::find(committing_ordered_, &data) != committing_ordered_.end())
    co_await may_begin_.wait();
}

Task<Result<>> Journal::flush() {
  // An empty running set has nothing to wait for, but a set on its way to the log may hold the caller's changes.
  const std::uint64_t target = running_.empty() ? running_set_ - 1 : running_set_;
  while (committed_set_ < target) {
    Mutex::Guard guard = co_await flushing_.lock();
    if (committed_set_ >= target) break;
    CO_TRY_VOID(co_await commit_running_set(ondisk::kLogHeadFlushNormal));
  }
  if (failed_) co_return fail(EIO);
  co_return Result<>{};
}

Task<Result<>> Journal::flush_with_device() {
  const bool commits = !running_.empty();
  CO_TRY_VOID(co_await flush());
  // The commit's own device flush came after the call; a commit that was already under way may have flushed before.
  if (commits) co_return Result<>{};
  co_return co_await flush_device_cache();
}

Task<Result<>> Journal::flush_device_cache() {
  if (failed_) co_return fail(EIO);
  if (!device_.geometry().volatile_write_cache) co_return Result<>{};
  const std::uint64_t needed = device_flushes_started_ + 1;
  Mutex::Guard guard = co_await device_flushing_.lock();
  if (device_flushes_done_ >= needed) co_return Result<>{};
  const std::uint64_t mine = ++device_flushes_started_;
  Result<> flushed = co_await flush_device();
  if (flushed) device_flushes_done_ = mine;
  check_failure(flushed);
  co_return flushed;
}

Task<Result<>> Journal::flush_device() {
  if (!device_.geometry().volatile_write_cache || planted(PlantedBug::skip_flush)) co_return Result<>{};
  ++counters_.device_flushes;
  co_return co_await device_.flush();
}

/// The caller holds flushing_.
Task<Result<>> Journal::commit_running_set(std::uint32_t header_flags) {
  if (failed_) co_return fail(EIO);
  Commit commit = co_await set_aside();
  Result<> result = co_await write_commit(commit, header_flags);
  for (const LoggedState& state : commit.states)
    --state.block->logging_;
  committing_log_blocks_ = 0;
  committing_ordered_.clear();
  if (result) {
    committed_set_ = commit.set;
    ++counters_.flushes;
    counters_.logged_blocks += commit.states.size();
    counters_.revokes += commit.revokes.size();
    if (options_.on_commit) options_.on_commit();
  }
  check_failure(result);
  may_begin_.notify_all();
  co_return result;
}

Task<Journal::Commit> Journal::set_aside() {
  setting_aside_ = true;
  while (open_transactions_ != 0)
    co_await drained_.wait();
  Commit commit;
  commit.set = running_set_++;
  commit.revokes.assign(running_.revokes.begin(), running_.revokes.end());
  if (planted(PlantedBug::lost_revoke)) commit.revokes.clear();
  commit.ordered = std::move(running_.ordered);
  for (BlockRef& block : running_.blocks) {
    if (block == nullptr) continue;
    block->pinned_ = false;
    ++block->logging_;
    commit.states.push_back({block, block->bytes_, block->journaled_data_});
  }
  if (options_.header_extras) commit.extras = options_.header_extras();
  committing_log_blocks_ =
      log_blocks_for(geometry_, running_.metadata, running_.journaled_data, running_.revokes.size()) + 1;
  committing_ordered_ = commit.ordered;
  // Now and not when the header is written: a block that a later transaction frees holds the tail no longer, but until
  // that transaction commits a replay needs what the log has of it.
  commit.tail = write_back_.tail().value_or(head_);
  commit.tail_set = write_back_.oldest_set().value_or(committing_log_blocks_ > 1 ? commit.set : commit.set + 1);
  if (planted(PlantedBug::early_tail)) commit.tail = head_;
  running_ = RunningSet{};
  work_.reset();
  setting_aside_ = false;
  may_begin_.notify_all();
  co_return commit;
}

Task<Result<>> Journal::write_commit(Commit& commit, std::uint32_t header_flags) {
  if (!planted(PlantedBug::metadata_before_data)) CO_TRY_VOID(co_await write_ordered());
  const std::uint32_t log_blocks = committing_log_blocks_ - 1;
  const std::uint32_t start = head_;
  CO_TRY_VOID(co_await write_log_blocks(executor_, device_, geometry_, map_, start, commit.states, commit.revokes));
  // After this commit freed blocks may be used again: no older write may still be on its way to them.
  co_await write_back_.freed_written();
  const std::uint32_t header_block = (start + log_blocks) % map_.size_blocks();
  CO_TRY_VOID(co_await flush_device());
  CO_TRY_VOID(co_await write_header(commit.extras, header_block, commit.tail, header_flags));
  if (planted(PlantedBug::metadata_before_data)) CO_TRY_VOID(co_await write_ordered());
  head_ = (header_block + 1) % map_.size_blocks();
  tail_ = commit.tail;
  tail_set_ = commit.tail_set;
  if (log_blocks != 0) write_back_.add(commit.set, start, commit.states);
  if (used_log_blocks() > map_.size_blocks() / 2) space_wanted_.set();
  co_return Result<>{};
}

namespace {
Task<void> write_one_ordered(OrderedData& data, Result<>& result) {
  Result<> written = co_await data.write_ordered();
  if (!written && result) result = std::unexpected(written.error().within("file data that the commit points to"));
}
}  // namespace

Task<Result<>> Journal::write_ordered() {
  Result<> result;
  Scope writes(executor_);
  std::vector<OrderedData*> ordered = committing_ordered_;
  for (OrderedData* data : ordered)
    writes.spawn(write_one_ordered(*data, result));
  co_await writes.join();
  committing_ordered_.clear();
  may_begin_.notify_all();
  co_return result;
}

Task<Result<>> Journal::write_header(const LogHeaderExtras& extras, std::uint32_t block, std::uint32_t tail,
                                     std::uint32_t flags) {
  LogHeaderFields fields;
  fields.journal = options_.id;
  fields.journal_inode = options_.inode;
  fields.sequence = sequence_++;
  fields.flags = flags;
  fields.tail = tail;
  fields.block = block;
  fields.time = executor_.clock().wall();
  fields.extras = extras;
  AlignedBuffer header = encode_log_header(geometry_, map_, fields);
  co_return co_await device_.write(geometry_.offset_bytes(map_.block_at(block)), std::as_const(header).span(),
                                   planted(PlantedBug::cached_header) ? WriteMode::cached : WriteMode::write_through);
}

/// Writes in place what is committed, then moves the tail past it.
Task<Result<>> Journal::make_space() {
  Result<> written = co_await write_back_.write(committed_set_);
  check_failure(written);
  CO_TRY_VOID(written);
  Mutex::Guard guard = co_await flushing_.lock();
  const bool tail_can_move = write_back_.tail().value_or(head_) != tail_;
  if (running_.empty() && !tail_can_move) co_return Result<>{};
  co_return co_await commit_running_set(ondisk::kLogHeadFlushNormal);
}

Task<Result<>> Journal::empty_log() {
  CO_TRY_VOID(co_await flush());
  co_return co_await make_space();
}

Task<Result<>> Journal::sync(const BlockOwner& owner) {
  // The owner may be changed again, or go, while this waits: what matters is what was changed before the call.
  const std::uint64_t set = owner.logged_in_;
  if (set < tail_set_) co_return Result<>{};
  if (committed_set_ < set) CO_TRY_VOID(co_await flush());
  co_return co_await move_tail_past(set);
}

Task<Result<>> Journal::move_tail_past(std::uint64_t set) {
  while (tail_set_ <= set) {
    if (failed_) co_return fail(EIO);
    Result<> written = co_await write_back_.write(set);
    check_failure(written);
    CO_TRY_VOID(written);
    Mutex::Guard guard = co_await flushing_.lock();
    // Whoever was committing may have moved it along.
    if (tail_set_ <= set) CO_TRY_VOID(co_await commit_running_set(ondisk::kLogHeadFlushNormal));
  }
  co_return Result<>{};
}

Task<void> Journal::run_write_back() {
  while (!stopped_ && !failed_) {
    co_await space_wanted_.wait();
    space_wanted_.reset();
    if (stopped_ || failed_) co_return;
    // A failure is remembered by the journal itself.
    static_cast<void>(co_await make_space());
    may_begin_.notify_all();
  }
}

Task<void> Journal::run_committer() {
  while (!stopped_ && !failed_) {
    co_await work_.wait();
    bool stopping = co_await stop_.wait_until(executor_.now() + options_.commit_interval);
    if (stopping || failed_) co_return;
    Result<> flushed = co_await flush();
    if (flushed) check_failure(co_await write_back_.write(committed_set_));
  }
}

Task<Result<>> Journal::shut_down(bool unmount) {
  Result<> flushed = co_await flush();
  stopped_ = true;
  stop_.set();
  work_.set();
  space_wanted_.set();
  may_begin_.notify_all();
  co_await background_.join();
  CO_TRY_VOID(flushed);
  CO_TRY_VOID(co_await flush());  // what began before stopped_ was set
  Mutex::Guard guard = co_await flushing_.lock();
  co_return co_await end_log(ondisk::kLogHeadFlushShutdown | (unmount ? ondisk::kLogHeadUnmount : 0));
}

Task<Result<>> Journal::freeze() {
  CO_TRY_VOID(co_await flush());
  Mutex::Guard guard = co_await flushing_.lock();
  if (failed_) co_return fail(EIO);
  if (frozen_) co_return Result<>{};
  CHECK_INVARIANT(running_.empty() && open_transactions_ == 0);
  frozen_ = true;
  co_return co_await end_log(ondisk::kLogHeadFlushFreeze | ondisk::kLogHeadUnmount);
}

/// With nothing to commit: writes everything in place, then the header behind which the log goes on empty. The caller
/// holds flushing_.
Task<Result<>> Journal::end_log(std::uint32_t header_flags) {
  Result<> result = co_await write_back_.write(committed_set_);
  if (result) result = co_await flush_device();
  if (result) {
    LogHeaderExtras extras = options_.header_extras ? options_.header_extras() : LogHeaderExtras{};
    result = co_await write_header(extras, head_, head_, header_flags);
    head_ = tail_ = (head_ + 1) % map_.size_blocks();
    tail_set_ = running_set_;
  }
  check_failure(result);
  co_return result;
}

void Journal::abandon() {
  failed_ = true;
  may_begin_.notify_all();
  space_wanted_.set();
  work_.set();
  stop_.set();
}

Task<void> Journal::stopped() {
  co_await background_.join();
  Mutex::Guard guard = co_await flushing_.lock();
}

void Journal::check_failure(const Result<>& result) {
  if (result || failed_) return;
  abandon();
  logger_.error("jid={}: the journal cannot be written: {}", options_.id.value, result.error().describe());
  if (options_.on_failure) options_.on_failure(result.error());
}

}  // namespace corral
