#include "journal/block_cache.h"

#include <algorithm>

namespace corral {

namespace {
/// Longest run of blocks that one read-ahead request asks the device for.
constexpr std::uint32_t kReadAheadRunBytes = 1u << 20;
}  // namespace

void intrusive_ptr_add_ref(Block* block) {
  if (block->references_++ == 0 && block->owner_ != nullptr) {
    auto& unused = block->cache_.unused_;
    using Hook = boost::intrusive::list_base_hook<boost::intrusive::tag<UnusedTag>, BlockHook>;
    if (static_cast<Hook&>(*block).is_linked()) unused.erase(unused.iterator_to(*block));
  }
}

void intrusive_ptr_release(Block* block) {
  if (--block->references_ == 0) block->cache_.settle(*block);
}

BlockCache::BlockCache(Executor& executor, Device& device, const ondisk::Geometry& geometry, std::uint64_t limit_bytes)
    : device_(device), geometry_(geometry), limit_bytes_(limit_bytes), read_done_(executor), background_(executor) {}

BlockCache::~BlockCache() {
  discard_all();
}

Block& BlockCache::insert(BlockOwner& owner, BlockNo number) {
  auto* block = new Block(*this, number);
  block->bytes_ = new BlockBytes(geometry_.block_size());
  block->owner_ = &owner;
  owner.blocks_.push_back(*block);
  blocks_.emplace(number, block);
  return *block;
}

void BlockCache::forget(Block& block) {
  BlockOwner* owner = std::exchange(block.owner_, nullptr);
  CHECK_INVARIANT(owner != nullptr);
  owner->blocks_.erase(owner->blocks_.iterator_to(block));
  using Hook = boost::intrusive::list_base_hook<boost::intrusive::tag<UnusedTag>, BlockHook>;
  if (static_cast<Hook&>(block).is_linked()) unused_.erase(unused_.iterator_to(block));
  blocks_.erase(block.number_);
  bool destroy = block.references_ == 0;
  if (destroy) delete &block;
  if (owner->blocks_.empty()) owner->emptied();
}

void BlockCache::settle(Block& block) {
  if (block.references_ != 0) return;
  if (block.owner_ == nullptr) {
    delete &block;
    return;
  }
  if (!block.clean()) return;
  if (!block.valid_) {
    forget(block);
    return;
  }
  unused_.push_back(block);
  shrink();
}

void BlockCache::shrink() {
  while (cached_bytes() > limit_bytes_ && !unused_.empty())
    forget(unused_.front());
}

void BlockCache::set_limit_bytes(std::uint64_t limit_bytes) {
  limit_bytes_ = limit_bytes;
  shrink();
}

BlockRef BlockCache::find(const BlockOwner& owner, BlockNo number) {
  auto found = blocks_.find(number);
  if (found == blocks_.end() || !found->second->valid_ || found->second->owner_ != &owner) return nullptr;
  return BlockRef(found->second);
}

bool BlockCache::in_use(BlockNo number) const {
  auto found = blocks_.find(number);
  if (found == blocks_.end()) return false;
  const Block& block = *found->second;
  return block.valid_ && (block.references_ > 0 || !block.clean());
}

Result<> BlockCache::check(Block& block, const BlockOwner& owner, BlockCheck check) const {
  if (block.owner_ != &owner) {
    return fail_corrupt("block {} is used twice: by {} and by {}", block.number_.value,
                        block.owner_ ? block.owner_->describe() : "an inode that was freed", owner.describe());
  }
  // A block that was checked as one thing may be asked for as another on a damaged volume.
  if (block.checked_by_ != check) {
    TRY_VOID(check(block.bytes(), block.number_, geometry_));
    block.checked_by_ = check;
  }
  return {};
}

Task<Result<BlockRef>> BlockCache::read(BlockOwner& owner, BlockNo number, BlockCheck check_block) {
  for (;;) {
    auto found = blocks_.find(number);
    if (found == blocks_.end()) {
      BlockRef block(&insert(owner, number));
      CO_TRY_VOID(co_await fill(block, check_block));
      co_return block;
    }
    BlockRef block(found->second);
    if (block->reading_) {
      co_await read_done_.wait();
      continue;
    }
    if (shared_ && block->owner_ != &owner && block->references_ == 1 && block->clean()) {
      forget(*block);
      continue;
    }
    CO_TRY_VOID(check(*block, owner, check_block));
    co_return block;
  }
}

Task<Result<>> BlockCache::fill(BlockRef block, BlockCheck check_block) {
  const BlockOwner& owner = *block->owner_;
  if (block->number_.value >= device_.geometry().size_bytes >> geometry_.block_shift()) {
    forget(*block);
    co_return fail_corrupt("block {}, which {} needs, lies beyond the end of {}", block->number_.value,
                           owner.describe(), device_.name());
  }
  block->reading_ = true;
  Result<> result = co_await device_.read(geometry_.offset_bytes(block->number_), block->bytes_->buffer.span());
  if (result) result = check_block(block->bytes(), block->number_, geometry_);
  block->reading_ = false;
  if (block->owner_ == nullptr) {
    // Taken for something else while it was read; the owner may be gone.
    if (result) result = fail_corrupt("block {} is used twice: it was free for the allocator", block->number_.value);
  } else if (result) {
    block->valid_ = true;
    block->checked_by_ = check_block;
  } else {
    forget(*block);
  }
  read_done_.notify_all();
  co_return result;
}

void BlockCache::read_ahead(BlockOwner& owner, std::span<const BlockNo> numbers, BlockCheck check_block) {
  std::vector<Wanted> wanted;
  wanted.reserve(numbers.size());
  for (BlockNo number : numbers)
    wanted.push_back({&owner, number});
  read_ahead(std::move(wanted), check_block);
}

void BlockCache::read_ahead(std::vector<Wanted> wanted, BlockCheck check_block) {
  std::erase_if(wanted, [this](const Wanted& w) { return blocks_.contains(w.number); });
  std::ranges::sort(wanted, {}, &Wanted::number);
  auto duplicates = std::ranges::unique(wanted, {}, &Wanted::number);
  wanted.erase(duplicates.begin(), duplicates.end());
  const std::size_t run_limit = std::max<std::size_t>(1, kReadAheadRunBytes / geometry_.block_size());
  for (std::size_t i = 0; i < wanted.size();) {
    std::vector<BlockRef> run;
    while (i < wanted.size() && run.size() < run_limit &&
           (run.empty() || wanted[i].number == run.back()->number_ + 1)) {
      run.emplace_back(&insert(*wanted[i].owner, wanted[i].number));
      run.back()->reading_ = true;
      ++i;
    }
    background_.spawn(fill_run(std::move(run), check_block));
  }
}

Task<void> BlockCache::fill_run(std::vector<BlockRef> blocks, BlockCheck check_block) {
  std::vector<ReadSpan> spans;
  for (const BlockRef& block : blocks)
    spans.push_back(block->bytes_->buffer.span());
  Result<> result = co_await device_.read(geometry_.offset_bytes(blocks.front()->number_), spans);
  for (const BlockRef& block : blocks) {
    block->reading_ = false;
    // What is wrong with a block is told to whoever reads it.
    if (result && check_block(block->bytes(), block->number_, geometry_)) {
      block->valid_ = true;
      block->checked_by_ = check_block;
    } else if (block->owner_ != nullptr) {
      forget(*block);
    }
  }
  read_done_.notify_all();
}

BlockRef BlockCache::create(BlockOwner& owner, BlockNo number) {
  if (auto found = blocks_.find(number); found != blocks_.end()) {
    // Read ahead while the block was free, or a leftover of its last use: it has nothing to say any more.
    CHECK_INVARIANT(!found->second->pinned_);
    forget(*found->second);
  }
  BlockRef block(&insert(owner, number));
  std::ranges::fill(block->bytes_->buffer.span(), std::byte{0});
  block->valid_ = true;
  return block;
}

void BlockCache::drop(BlockOwner& owner) {
  while (!owner.blocks_.empty()) {
    Block& block = owner.blocks_.front();
    CHECK_INVARIANT(block.clean());
    bool last = ++owner.blocks_.begin() == owner.blocks_.end();
    forget(block);
    if (last) return;  // the owner may be gone
  }
}

Task<void> BlockCache::release(BlockOwner& owner) {
  while (std::ranges::any_of(owner.blocks_, [](const Block& block) { return block.reading_; }))
    co_await read_done_.wait();
  drop(owner);
}

bool BlockCache::forget_clean(BlockNo number) {
  auto found = blocks_.find(number);
  if (found == blocks_.end()) return true;
  Block& block = *found->second;
  if (block.references_ != 0 || block.reading_ || !block.clean()) return false;
  forget(block);
  return true;
}

void BlockCache::drop_clean() {
  while (!unused_.empty())
    forget(unused_.front());
}

void BlockCache::discard_all() {
  while (!blocks_.empty()) {
    Block& block = *blocks_.begin()->second;
    block.pinned_ = false;
    forget(block);
  }
}

Task<void> BlockCache::quiesce() {
  co_await background_.join();
}

}  // namespace corral
