#include <cstring>
#include <utility>

#include "journal/journal.h"

namespace corral {

Transaction::Transaction(Transaction&& other) noexcept
    : journal_(std::exchange(other.journal_, nullptr)), unused_(other.unused_) {}

Transaction::~Transaction() {
  if (journal_ != nullptr) journal_->end(*this);
}

std::span<std::byte> Transaction::modify(Block& block) {
  return add(block, false);
}

std::span<std::byte> Transaction::modify_data(Block& block) {
  return add(block, true);
}

std::span<std::byte> Transaction::add(Block& block, bool journaled_data) {
  CHECK_INVARIANT(block.valid_ && block.owner_ != nullptr);
  Journal::RunningSet& running = journal_->running_;
  if (!block.pinned_) {
    CHECK_INVARIANT(unused_.blocks > 0);
    --unused_.blocks;
    --journal_->open_size_.blocks;
    block.pinned_ = true;
    block.owner_->logged_in_ = journal_->running_set_;
    block.journaled_data_ = journaled_data;
    block.running_index_ = running.blocks.size();
    running.blocks.emplace_back(&block);
    ++(journaled_data ? running.journaled_data : running.metadata);
    // A revoke in the same flush would also undo this change.
    running.revokes.erase(block.number_);
  }
  CHECK_INVARIANT(block.journaled_data_ == journaled_data);
  if (block.bytes_->use_count() > 1) {
    BlockBytesRef copy(new BlockBytes(block.bytes_->buffer.size()));
    std::memcpy(copy->buffer.data(), block.bytes_->buffer.data(), copy->buffer.size());
    block.bytes_ = std::move(copy);
  }
  return block.bytes_->buffer.span();
}

void Transaction::free_block(BlockNo number) {
  CHECK_INVARIANT(unused_.revokes > 0);
  --unused_.revokes;
  --journal_->open_size_.revokes;
  Journal::RunningSet& running = journal_->running_;
  running.revokes.insert(number);
  BlockCache& cache = journal_->cache_;
  auto found = cache.blocks_.find(number);
  if (found == cache.blocks_.end()) return;
  BlockRef block(found->second);
  if (block->pinned_) {
    block->pinned_ = false;
    --(block->journaled_data_ ? running.journaled_data : running.metadata);
    running.blocks[block->running_index_] = nullptr;
  }
  journal_->write_back_.forget(*block);
  cache.forget(*block);
}

void Transaction::order(OrderedData& data) {
  if (data.ordered_in_ == journal_->running_set_) return;
  data.ordered_in_ = journal_->running_set_;
  journal_->running_.ordered.push_back(&data);
}

}  // namespace corral
