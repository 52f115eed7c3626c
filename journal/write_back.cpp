#include "journal/write_back.h"

#include <algorithm>

namespace corral {

namespace {
constexpr std::size_t kBatchBlocks = 1024;
constexpr std::size_t kRunBlocks = 256;
}  // namespace

WriteBack::WriteBack(Executor& executor, BlockCache& cache) : executor_(executor), cache_(cache), progress_(executor) {}

WriteBack::~WriteBack() {
  abandon();
}

void WriteBack::add(std::uint64_t set, std::uint32_t log_block, std::vector<LoggedState> states) {
  auto checkpoint = std::make_unique<Checkpoint>();
  checkpoint->set = set;
  checkpoint->log_block = log_block;
  for (LoggedState& state : states) {
    Block& block = *state.block;
    if (block.owner_ == nullptr) continue;  // freed meanwhile: its revoke is in the running set
    if (block.checkpoint_ != nullptr) --block.checkpoint_->outstanding;
    block.checkpoint_ = checkpoint.get();
    block.committed_ = std::move(state.state);
    ++checkpoint->outstanding;
    checkpoint->blocks.push_back(std::move(state.block));
  }
  // Even an empty one holds the tail: its revokes are needed as long as older entries are in the log.
  checkpoints_.push_back(std::move(checkpoint));
}

void WriteBack::forget(Block& block) {
  if (block.checkpoint_ != nullptr) {
    --block.checkpoint_->outstanding;
    block.checkpoint_ = nullptr;
    block.committed_ = nullptr;
  }
  freed_writing_ += block.writing_;
}

std::optional<std::uint32_t> WriteBack::tail() {
  pop_done();
  if (checkpoints_.empty()) return std::nullopt;
  return checkpoints_.front()->log_block;
}

std::optional<std::uint64_t> WriteBack::oldest_set() {
  pop_done();
  if (checkpoints_.empty()) return std::nullopt;
  return checkpoints_.front()->set;
}

void WriteBack::pop_done() {
  while (!checkpoints_.empty() && checkpoints_.front()->outstanding == 0)
    checkpoints_.pop_front();
}

std::vector<WriteBack::Write> WriteBack::next_batch(std::uint64_t last_set) {
  std::vector<Write> batch;
  for (const auto& checkpoint : checkpoints_) {
    if (checkpoint->set > last_set || batch.size() >= kBatchBlocks) break;
    if (checkpoint->outstanding == 0) continue;
    for (const BlockRef& block : checkpoint->blocks) {
      if (block->checkpoint_ == checkpoint.get() && block->writing_ == 0) batch.push_back({block, block->committed_});
    }
  }
  std::ranges::sort(batch, {}, [](const Write& write) { return write.block->number(); });
  return batch;
}

Task<Result<>> WriteBack::write(std::uint64_t last_set) {
  Result<> result;
  for (;;) {
    pop_done();
    if (checkpoints_.empty() || checkpoints_.front()->set > last_set) co_return result;
    std::vector<Write> batch = next_batch(last_set);
    if (batch.empty()) {
      bool all_in_place =
          std::ranges::all_of(checkpoints_, [&](const auto& c) { return c->set > last_set || c->outstanding == 0; });
      if (all_in_place) co_return result;
      co_await progress_.wait();
      continue;
    }
    Scope writes(executor_);
    for (std::size_t i = 0; i < batch.size();) {
      std::vector<Write> run;
      do {
        run.push_back(batch[i++]);
      } while (i < batch.size() && run.size() < kRunBlocks &&
               batch[i].block->number() == run.back().block->number() + 1);
      for (const Write& write : run)
        ++write.block->writing_;
      writes.spawn(write_run(std::move(run), result));
    }
    batch.clear();
    co_await writes.join();
    if (!result) co_return result;
  }
}

Task<void> WriteBack::write_run(std::vector<Write> run, Result<>& result) {
  std::vector<WriteSpan> spans;
  for (const Write& write : run)
    spans.push_back(write.state->buffer.span());
  std::uint64_t offset = cache_.geometry().offset_bytes(run.front().block->number());
  Result<> written = co_await cache_.device().write(offset, spans, WriteMode::cached);
  for (Write& write : run) {
    Block& block = *write.block;
    --block.writing_;
    if (block.owner_ == nullptr && freed_writing_ > 0) --freed_writing_;
    if (written) in_place(block, write.state);
    write.state = nullptr;
  }
  if (!written && result) result = std::move(written);
  progress_.notify_all();
}

void WriteBack::in_place(Block& block, const BlockBytesRef& state) {
  ++written_;
  if (block.committed_ != state) return;  // committed anew, or freed, while it was being written
  --block.checkpoint_->outstanding;
  block.checkpoint_ = nullptr;
  block.committed_ = nullptr;
}

Task<void> WriteBack::freed_written() {
  while (freed_writing_ != 0)
    co_await progress_.wait();
}

void WriteBack::abandon() {
  for (auto& checkpoint : checkpoints_) {
    for (const BlockRef& block : checkpoint->blocks) {
      if (block->checkpoint_ != checkpoint.get()) continue;
      block->checkpoint_ = nullptr;
      block->committed_ = nullptr;
    }
  }
  checkpoints_.clear();
}

}  // namespace corral
