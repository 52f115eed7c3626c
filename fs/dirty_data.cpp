#include "fs/dirty_data.h"

#include <algorithm>
#include <cstring>

#include "fs/write_out.h"

namespace corral {

namespace {
std::uint64_t earliest(std::uint64_t a, std::uint64_t b) {
  if (a == 0 || b == 0) return std::max(a, b);
  return std::min(a, b);
}
}  // namespace

DirtyData::DirtyData(WriteOut& write_out, Inode& inode)
    : write_out_(write_out), inode_(inode), changed_(write_out.volume().executor) {}

DirtyData::~DirtyData() = default;

DirtyData::Chunks::const_iterator DirtyData::first_touching(const Chunks& chunks, FileRange range) {
  auto place = chunks.upper_bound(range.first);
  if (place != chunks.begin() && std::prev(place)->second.end() > range.first) return std::prev(place);
  return place != chunks.end() && place->first < range.end ? place : chunks.end();
}

DirtyChunk& DirtyData::add_chunk(std::uint64_t first, BlockNo start, std::uint32_t blocks,
                                 std::uint32_t capacity_blocks, std::uint64_t allocated_in) {
  const std::uint32_t block_size = write_out_.block_size();
  DirtyChunk chunk;
  chunk.first = first;
  chunk.blocks = blocks;
  chunk.start = start;
  chunk.buffer = write_out_.buffers().take(std::size_t{capacity_blocks} * block_size);
  chunk.capacity_blocks = static_cast<std::uint32_t>(chunk.buffer.size() / block_size);
  chunk.contents = chunk.buffer.data();
  chunk.number = write_out_.next_number_++;
  chunk.allocated_in = allocated_in;
  chunk.since = write_out_.volume().executor.now();
  return waiting_.emplace(first, std::move(chunk)).first->second;
}

DirtyData::Slot DirtyData::slot(FileBlock block, BlockNo device_block, std::uint64_t wanted,
                                std::uint64_t allocated_in) {
  CHECK_INVARIANT(wanted > 0);
  const std::uint32_t block_size = write_out_.block_size();
  const auto most = static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, DataBuffers::kMostBytes / block_size));
  auto slot_in = [&](DirtyChunk& chunk, std::uint32_t blocks, bool fresh) {
    chunk.allocated_in = earliest(chunk.allocated_in, allocated_in);
    std::size_t offset = (block.value - chunk.first) * block_size;
    return Slot{{chunk.buffer.data() + offset, std::size_t{blocks} * block_size}, blocks, fresh};
  };

  auto next = waiting_.upper_bound(block.value);
  DirtyChunk* before = next == waiting_.begin() ? nullptr : &std::prev(next)->second;
  if (before != nullptr && block.value < before->end()) {
    // Blocks are dropped here before they are given up: a dirty block never moves.
    CHECK_INVARIANT(before->start + (block.value - before->first) == device_block);
    return slot_in(*before, static_cast<std::uint32_t>(std::min<std::uint64_t>(most, before->end() - block.value)),
                   false);
  }
  std::uint32_t blocks = most;
  if (next != waiting_.end())
    blocks = static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks, next->first - block.value));
  const bool follows = before != nullptr && before->end() == block.value &&
                       before->start + before->blocks == device_block && !before->failed;
  if (follows && before->blocks < before->capacity_blocks) {
    blocks = std::min(blocks, before->capacity_blocks - before->blocks);
    before->blocks += blocks;
    count_waiting(blocks, 0);
    return slot_in(*before, blocks, true);
  }
  // A file written in small pieces gets larger and larger chunks.
  std::uint64_t room = std::uint64_t{blocks} * block_size;
  if (follows) room = std::max<std::uint64_t>(room, std::min(2 * before->buffer.size(), DataBuffers::kMostBytes));
  DirtyChunk& chunk =
      add_chunk(block.value, device_block, blocks, static_cast<std::uint32_t>(room / block_size), allocated_in);
  count_waiting(blocks, 0);
  return slot_in(chunk, blocks, true);
}

void DirtyData::order(Transaction& transaction) {
  const std::uint64_t set = write_out_.volume().journal->running_set();
  if (named_in_ == set) return;
  named_in_ = set;
  ++names_;
  transaction.order(*this);
}

DirtyData::Piece DirtyData::piece(FileBlock block, std::uint64_t wanted) const {
  Piece piece{nullptr, wanted};
  for (const Chunks* chunks : {&waiting_, &writing_}) {
    auto place = first_touching(*chunks, {block.value, block.value + piece.blocks});
    if (place == chunks->end()) continue;
    const DirtyChunk& chunk = place->second;
    if (chunk.first > block.value) {
      piece.blocks = chunk.first - block.value;
      continue;
    }
    piece.blocks = std::min(piece.blocks, chunk.end() - block.value);
    const std::uint32_t block_size = write_out_.block_size();
    if (chunk.contents != nullptr) {
      piece.bytes = chunk.contents + (block.value - chunk.first) * block_size;
    } else {
      piece.bytes = write_out_.zeros().data();
      piece.blocks = std::min<std::uint64_t>(piece.blocks, write_out_.zeros().size() / block_size);
    }
    return piece;
  }
  return piece;
}

bool DirtyData::chosen(const DirtyChunk& chunk, const Choice& choice) const {
  if (intersection(chunk.range(), choice.range).empty() || chunk.failed) return false;
  if (chunk.number >= choice.number_below || chunk.since >= choice.since_before) return false;
  if (choice.only_ordered && chunk.allocated_in == 0) return false;
  return !choice.only_full || chunk.blocks == chunk.capacity_blocks;
}

bool DirtyData::under_way(const Choice& choice) const {
  auto in = [&](const Chunks& chunks) {
    for (auto place = first_touching(chunks, choice.range); place != chunks.end() && place->first < choice.range.end;
         ++place)
      if (chosen(place->second, choice)) return true;
    return false;
  };
  return in(writing_) || in(waiting_);
}

void DirtyData::start(const Choice& choice) {
  const std::uint32_t block_size = write_out_.block_size();
  Use use(*this);
  std::vector<FileRange> writes;
  BlockNo continues;
  std::size_t spans = 0;
  std::uint64_t started_blocks = 0;
  auto place = waiting_.begin();
  if (auto first = first_touching(waiting_, choice.range); first != waiting_.end()) place = waiting_.find(first->first);
  while (place != waiting_.end() && place->first < choice.range.end) {
    auto here = place++;
    const DirtyChunk& chunk = here->second;
    if (!chosen(chunk, choice) || touches(writing_, chunk.range())) continue;
    const bool joins = !writes.empty() && writes.back().end == chunk.first && continues == chunk.start &&
                       spans < WriteOut::kWriteSpans &&
                       (chunk.end() - writes.back().first) * block_size <= WriteOut::kWriteBytes;
    if (!joins) {
      writes.push_back(chunk.range());
      spans = 0;
    }
    writes.back().end = chunk.end();
    continues = chunk.start + chunk.blocks;
    ++spans;
    started_blocks += chunk.blocks;
    writing_.insert(waiting_.extract(here));
  }
  count_waiting(0, started_blocks);
  write_out_.dirty_bytes_ += started_blocks * block_size;
  // Only now: a write that ends at once changes both sets.
  for (FileRange range : writes)
    write_out_.spawn_write(*this, range, (range.end - range.first) * block_size);
}

void DirtyData::write_through(FileBlock first, BlockNo start, std::uint64_t blocks, const std::byte* contents,
                              std::uint64_t allocated_in, std::shared_ptr<PendingWrites> pending) {
  const std::uint32_t block_size = write_out_.block_size();
  const FileRange whole{first.value, first.value + blocks};
  CHECK_INVARIANT(!touches(waiting_, whole) && !touches(writing_, whole));
  Use use(*this);
  const std::uint64_t most = WriteOut::kWriteBytes / block_size;
  std::vector<FileRange> writes;
  for (std::uint64_t done = 0; done < blocks;) {
    DirtyChunk chunk;
    chunk.first = first.value + done;
    chunk.blocks = static_cast<std::uint32_t>(std::min(most, blocks - done));
    chunk.start = start + done;
    chunk.contents = contents == nullptr ? nullptr : contents + done * block_size;
    chunk.pending = pending;
    chunk.number = write_out_.next_number_++;
    chunk.allocated_in = allocated_in;
    chunk.since = write_out_.volume().executor.now();
    ++pending->count;
    done += chunk.blocks;
    writes.push_back(chunk.range());
    write_out_.dirty_bytes_ += std::uint64_t{chunk.blocks} * block_size;
    writing_.emplace(chunk.first, std::move(chunk));
  }
  for (FileRange range : writes)
    write_out_.spawn_write(*this, range, (range.end - range.first) * block_size);
}

std::vector<WriteSpan> DirtyData::spans(FileRange range) const {
  std::vector<WriteSpan> spans;
  for (auto place = writing_.find(range.first); place != writing_.end() && place->first < range.end; ++place) {
    const DirtyChunk& chunk = place->second;
    std::size_t bytes = std::size_t{chunk.blocks} * write_out_.block_size();
    if (chunk.contents != nullptr) {
      spans.emplace_back(chunk.contents, bytes);
      continue;
    }
    for (std::size_t part; bytes > 0; bytes -= part) {
      part = std::min(bytes, write_out_.zeros().size());
      spans.push_back(write_out_.zeros().first(part));
    }
  }
  return spans;
}

void DirtyData::finish(FileRange range, const Result<>& result) {
  if (!result) {
    error_ = result.error().within(
        fmt::format("inode {}, file blocks {} to {}", inode_.address().value, range.first, range.end - 1));
    if (!write_out_.volume().withdrawn) write_out_.volume().log.error("{}", error_->describe());
  }
  for (auto place = writing_.find(range.first); place != writing_.end() && place->first < range.end;) {
    DirtyChunk chunk = std::move(writing_.extract(place++).mapped());
    if (chunk.pending) {
      --chunk.pending->count;
      if (!result && !chunk.pending->error) chunk.pending->error = error_;
      chunk.pending->changed.notify_all();
    }
    write_out_.dirty_bytes_ -= std::uint64_t{chunk.blocks} * write_out_.block_size();
    // Blocks that were there before keep what they held, as far as the device can tell: whoever waits is told.
    bool told = chunk.pending && chunk.allocated_in == 0;
    if (!result && chunk.allocated_in != 0) ordered_error_ = error_;
    if (!result && !told)
      keep_failed(std::move(chunk));
    else
      write_out_.buffers().give(std::move(chunk.buffer));
  }
  changed_.notify_all();
}

void DirtyData::keep_failed(DirtyChunk chunk) {
  const std::uint32_t block_size = write_out_.block_size();
  const std::uint64_t most = DataBuffers::kMostBytes / block_size;
  std::uint64_t block = chunk.first;
  while (block < chunk.end()) {
    // What was changed since has a newer state among the waiting chunks.
    auto newer = first_touching(waiting_, {block, chunk.end()});
    if (newer != waiting_.end() && newer->first <= block) {
      DirtyChunk& over = waiting_.at(newer->first);
      over.allocated_in = earliest(over.allocated_in, chunk.allocated_in);
      block = over.end();
      continue;
    }
    std::uint64_t end = std::min(newer == waiting_.end() ? chunk.end() : newer->first, block + most);
    auto blocks = static_cast<std::uint32_t>(end - block);
    DirtyChunk& kept = add_chunk(block, chunk.start + (block - chunk.first), blocks, blocks, chunk.allocated_in);
    std::size_t bytes = std::size_t{blocks} * block_size;
    if (chunk.contents != nullptr)
      std::memcpy(kept.buffer.data(), chunk.contents + (block - chunk.first) * block_size, bytes);
    else
      std::memset(kept.buffer.data(), 0, bytes);
    kept.failed = true;
    count_waiting(blocks, 0);
    block = end;
  }
  write_out_.buffers().give(std::move(chunk.buffer));
}

Task<void> DirtyData::write(Choice choice) {
  Use use(*this);
  choice.number_below = write_out_.next_number_;
  for (;;) {
    start(choice);
    if (!under_way(choice)) break;
    co_await changed_.wait();
  }
}

Task<Result<>> DirtyData::write_back(FileRange range) {
  Use use(*this);
  for (auto& [first, chunk] : waiting_)
    if (!intersection(chunk.range(), range).empty()) chunk.failed = false;
  co_await write({.range = range});
  for (auto& [first, chunk] : waiting_)
    if (chunk.failed && !intersection(chunk.range(), range).empty()) co_return std::unexpected(*error_);
  co_return Result<>{};
}

Task<Result<>> DirtyData::write_ordered() {
  // What failed before is tried again: the commit must not point to blocks that hold something else.
  Use use(*this);
  ordered_error_.reset();
  for (auto& [first, chunk] : waiting_)
    if (chunk.allocated_in != 0) chunk.failed = false;
  co_await write({.only_ordered = true});
  --names_;
  if (ordered_error_) co_return std::unexpected(*ordered_error_);
  co_return Result<>{};
}

bool DirtyData::needed_by_commit(const DirtyChunk& chunk) const {
  const Volume& volume = write_out_.volume();
  return volume.writable() && chunk.allocated_in != 0 && chunk.allocated_in < volume.journal->running_set() &&
         chunk.allocated_in > volume.journal->committed_set();
}

void DirtyData::cut(Chunks::iterator place, FileRange range) {
  const std::uint32_t block_size = write_out_.block_size();
  DirtyChunk& chunk = place->second;
  const FileRange gone = intersection(chunk.range(), range);
  count_waiting(0, gone.end - gone.first);
  if (gone.end < chunk.end()) {
    auto blocks = static_cast<std::uint32_t>(chunk.end() - gone.end);
    DirtyChunk& rest = add_chunk(gone.end, chunk.start + (gone.end - chunk.first), blocks, blocks, chunk.allocated_in);
    std::memcpy(rest.buffer.data(), chunk.buffer.data() + (gone.end - chunk.first) * block_size,
                std::size_t{blocks} * block_size);
    rest.number = chunk.number;
    rest.since = chunk.since;
    rest.failed = chunk.failed;
  }
  chunk.blocks = static_cast<std::uint32_t>(gone.first - chunk.first);
  if (chunk.blocks > 0) return;
  write_out_.buffers().give(std::move(chunk.buffer));
  waiting_.erase(place);
}

Task<void> DirtyData::drop(FileRange range) {
  Use use(*this);
  for (;;) {
    for (auto place = waiting_.begin(); place != waiting_.end();) {
      auto here = place++;
      if (intersection(here->second.range(), range).empty()) continue;
      if (needed_by_commit(here->second))
        here->second.failed = false;  // tried again until it succeeds or the commit has failed
      else
        cut(here, range);
    }
    start({.range = range});
    if (!touches(waiting_, range) && !touches(writing_, range)) break;
    co_await changed_.wait();
  }
  // Writers may wait for the room that this gave.
  write_out_.progress_.notify_all();
}

void DirtyData::abandon() {
  Use use(*this);
  count_waiting(0, waiting_bytes_ / write_out_.block_size());
  for (auto& [first, chunk] : writing_)
    write_out_.dirty_bytes_ -= std::uint64_t{chunk.blocks} * write_out_.block_size();
  waiting_.clear();
  writing_.clear();
  names_ = 0;
  unlink();
}

void DirtyData::count_waiting(std::uint64_t more_blocks, std::uint64_t less_blocks) {
  const std::uint64_t before = waiting_bytes_;
  waiting_bytes_ += (more_blocks - less_blocks) * write_out_.block_size();
  write_out_.dirty_bytes_ += waiting_bytes_ - before;
  if (before == 0 && waiting_bytes_ != 0) ++write_out_.waiting_inodes_;
  if (before != 0 && waiting_bytes_ == 0) --write_out_.waiting_inodes_;
}

void DirtyData::leave_if_done() {
  if (!empty() || names_ != 0 || inode_.dirty.get() != this) return;
  unlink();
  inode_.dirty.reset();
}

std::optional<Time> DirtyData::oldest() const {
  std::optional<Time> oldest;
  for (const auto& [first, chunk] : waiting_)
    if (!chunk.failed && (!oldest || chunk.since < *oldest)) oldest = chunk.since;
  return oldest;
}

}  // namespace corral
