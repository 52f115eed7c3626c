#include "fs/write_out.h"

#include <algorithm>
#include <vector>

namespace corral {

namespace {
constexpr std::uint64_t kWritesInFlight = 32;
/// An inode with so much waiting data has its finished chunks written.
constexpr std::uint64_t kStreamBytes = 8u << 20;
/// So many inodes with waiting data make a commit long, and each takes memory while it is written.
constexpr std::uint64_t kManyInodes = 8192;
constexpr std::size_t kZeroBytes = 256u << 10;
constexpr Duration kLeastAgingPause = std::chrono::seconds(1);
}  // namespace

WriteOut::WriteOut(Volume& volume, std::uint64_t limit_bytes)
    : volume_(volume),
      limit_bytes_(limit_bytes),
      relieve_at_bytes_(limit_bytes / 2),
      zeros_(kZeroBytes),
      slots_(volume.executor, kWritesInFlight),
      progress_(volume.executor),
      tasks_(volume.executor) {}

WriteOut::~WriteOut() {
  while (!dirty_.empty())
    dirty_.front().abandon();
}

DirtyData& WriteOut::of(Inode& inode) {
  if (!inode.dirty) {
    inode.dirty = std::make_shared<DirtyData>(*this, inode);
    dirty_.push_back(*inode.dirty);
  }
  return *inode.dirty;
}

Result<> WriteOut::may_write() const {
  if (volume_.withdrawn) return fail(EIO, "the filesystem has withdrawn: {}", volume_.withdraw_reason);
  return {};
}

void WriteOut::spawn_write(DirtyData& dirty, FileRange range, std::uint64_t bytes) {
  in_flight_bytes_ += bytes;
  tasks_.spawn(write(dirty, range, bytes));
}

Task<void> WriteOut::write(DirtyData& dirty, FileRange range, std::uint64_t bytes) {
  DirtyData::Use use(dirty);
  co_await slots_.acquire();
  Result<> result = may_write();
  if (result) {
    std::vector<WriteSpan> spans = dirty.spans(range);
    result = co_await volume_.device.write(volume_.geometry.offset_bytes(dirty.device_block(range)), spans,
                                           WriteMode::cached);
  }
  slots_.release();
  in_flight_bytes_ -= bytes;
  dirty.finish(range, result);
  progress_.notify_all();
}

Task<Result<>> WriteOut::make_room() {
  while (dirty_bytes_ >= limit_bytes_) {
    if (in_flight_bytes_ == 0) start_all();
    if (dirty_bytes_ < limit_bytes_) break;
    if (in_flight_bytes_ == 0)
      co_return fail_device(EIO, "{}: {} bytes of file data cannot be written, no room for more", volume_.device.name(),
                            dirty_bytes_);
    co_await progress_.wait();
  }
  co_return Result<>{};
}

void WriteOut::relieve() {
  if (idle_bytes() < limit_bytes_ / 2) relieve_at_bytes_ = limit_bytes_ / 2;
  if (idle_bytes() < relieve_at_bytes_ && waiting_inodes_ < kManyInodes) return;
  std::vector<std::shared_ptr<DirtyData>> oldest;
  std::uint64_t bytes_left = idle_bytes();
  std::uint64_t inodes_left = waiting_inodes_;
  for (DirtyData& dirty : dirty_) {
    if (bytes_left <= limit_bytes_ / 4 && inodes_left <= kManyInodes / 2) break;
    if (dirty.waiting_bytes() == 0) continue;
    oldest.push_back(dirty.shared_from_this());
    bytes_left -= std::min(bytes_left, dirty.waiting_bytes());
    --inodes_left;
  }
  for (auto& dirty : oldest)
    dirty->start({});
  // What could not be started now, because older writes of the same blocks are in flight, is not tried at every turn.
  relieve_at_bytes_ = std::max(limit_bytes_ / 2, idle_bytes() + limit_bytes_ / 16);
}

std::vector<std::shared_ptr<DirtyData>> WriteOut::all_dirty() {
  std::vector<std::shared_ptr<DirtyData>> all;
  for (DirtyData& dirty : dirty_)
    all.push_back(dirty.shared_from_this());
  return all;
}

void WriteOut::start_all() {
  for (auto& dirty : all_dirty())
    dirty->start({});
}

void WriteOut::data_added(DirtyData& dirty) {
  DirtyData::Use use(dirty);
  if (dirty.waiting_bytes() < kStreamBytes) dirty.stream_at_bytes_ = kStreamBytes;
  if (dirty.waiting_bytes() >= dirty.stream_at_bytes_) {
    dirty.start({.only_full = true});
    if (dirty.waiting_bytes() >= kStreamBytes / 2) dirty.start({});
    dirty.stream_at_bytes_ = dirty.waiting_bytes() + kStreamBytes;
  }
  relieve();
  if (!aging_ && dirty.oldest()) {
    aging_ = true;
    tasks_.spawn(write_aged());
  }
}

Task<void> WriteOut::write_aged() {
  const Duration age = volume_.options.commit_interval;
  for (;;) {
    std::optional<Time> oldest;
    for (DirtyData& dirty : dirty_)
      if (auto since = dirty.oldest(); since && (!oldest || *since < *oldest)) oldest = since;
    if (!oldest) break;
    co_await volume_.executor.sleep_until(std::max(*oldest + age, volume_.executor.now() + kLeastAgingPause));
    // Half the age: what would be due soon goes along, so that the disk is not woken for every chunk.
    for (auto& dirty : all_dirty())
      dirty->start({.since_before = volume_.executor.now() - age / 2});
  }
  aging_ = false;
  if (dirty_bytes_ == 0) buffers_.trim();
}

Task<Result<>> WriteOut::write_back_all() {
  start_all();
  Result<> first;
  for (auto& dirty : all_dirty()) {
    // Its inode is not held over the waits for others: once nothing is left to write it may be freed.
    if (!dirty->is_linked()) continue;
    if (auto written = co_await dirty->write_back(); !written && first) first = written;
  }
  co_return first;
}

}  // namespace corral
