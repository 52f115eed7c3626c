#include "journal/log_scan.h"

#include <algorithm>

#include "base/planted_bug.h"
#include "ondisk/validate.h"

namespace corral {

using namespace ondisk;

WritableBlocks::WritableBlocks(std::uint64_t volume_blocks, const Geometry& geometry,
                               std::span<const JournalMap> journals)
    : volume_blocks_(volume_blocks), superblock_(geometry.superblock()) {
  for (const JournalMap& map : journals) {
    for (const JournalMap::Extent& extent : map.extents())
      journals_.push_back({extent.start, extent.start + extent.length});
  }
  std::sort(journals_.begin(), journals_.end(), [](const Range& a, const Range& b) { return a.start < b.start; });
}

bool WritableBlocks::contains(BlockNo block) const {
  if (block <= superblock_ || block.value >= volume_blocks_) return false;
  auto behind = std::upper_bound(journals_.begin(), journals_.end(), block,
                                 [](BlockNo number, const Range& range) { return number < range.start; });
  return behind == journals_.begin() || block >= std::prev(behind)->end;
}

LogScan::LogScan(const Geometry& geometry, const JournalHead& head, std::uint32_t journal_blocks)
    : geometry_(geometry),
      tail_(head.tail),
      journal_blocks_(journal_blocks),
      active_(head.block >= head.tail ? head.block - head.tail : journal_blocks - head.tail + head.block) {
  CHECK_INVARIANT(head.tail < journal_blocks && head.block < journal_blocks);
}

std::uint32_t LogScan::journal_block(std::uint32_t log_offset) const {
  return static_cast<std::uint32_t>((std::uint64_t{tail_} + log_offset) % journal_blocks_);
}

Result<> LogScan::add(std::span<const std::byte> block) {
  CHECK_INVARIANT(next_ < active_ && block.size() == geometry_.block_size());
  const std::uint32_t here = next_++;
  if (left_ > 0) {
    --left_;
    return continue_descriptor(block, here);
  }
  if (has_meta_type(block, MetaType::log_header)) return check_log_header(block, FileBlock(journal_block(here)));
  return begin_descriptor(block, here);
}

Result<> LogScan::begin_descriptor(std::span<const std::byte> block, std::uint32_t here) {
  const FileBlock place(journal_block(here));
  TRY_VOID(check_log_descriptor(block, place, journal_blocks_));
  const auto& descriptor = view<LogDescriptor>(block);
  const std::uint32_t length = descriptor.length;
  if (length > active_ - here)
    return fail_corrupt("log descriptor at journal block {}: {} blocks long, expected at most {} up to the log's head",
                        place.value, length, active_ - here);
  left_ = length - 1;
  items_left_ = descriptor.data1;
  item_ = plan_.blocks.size();
  const auto numbers = pointers(block, sizeof(LogDescriptor));
  switch (static_cast<LogDescriptorType>(descriptor.type.value())) {
    case LogDescriptorType::metadata:
      inside_ = Inside::metadata;
      for (std::uint32_t i = 0; i < items_left_; ++i)
        plan_.blocks.push_back({.place = BlockNo(numbers[i]), .log_offset = here + 1 + i});
      break;
    case LogDescriptorType::journaled_data:
      inside_ = Inside::journaled_data;
      for (std::uint32_t i = 0; i < items_left_; ++i)
        plan_.blocks.push_back({.place = BlockNo(numbers[2 * i]),
                                .log_offset = here + 1 + i,
                                .journaled_data = true,
                                .escaped = numbers[2 * i + 1] != 0});
      break;
    case LogDescriptorType::revoke:
      inside_ = Inside::revokes;
      take_revokes(block, sizeof(LogDescriptor), here);
      break;
    default:
      inside_ = Inside::skipped;
      ++plan_.unknown_descriptors;
  }
  return {};
}

Result<> LogScan::continue_descriptor(std::span<const std::byte> block, std::uint32_t here) {
  if (items_left_ == 0) return {};
  switch (inside_) {
    case Inside::metadata:
      // Whether it matters is known when all revokes are.
      plan_.blocks[item_++].intact = view<MetaHeader>(block).magic == kMagic;
      --items_left_;
      break;
    case Inside::revokes:
      TRY_VOID(check_meta_header(block, BlockNo(journal_block(here)), MetaType::log_block));
      take_revokes(block, sizeof(MetaHeader), here);
      break;
    case Inside::journaled_data:
    case Inside::skipped:
      break;
  }
  return {};
}

void LogScan::take_revokes(std::span<const std::byte> block, std::size_t header_bytes, std::uint32_t here) {
  const auto numbers = pointers(block, header_bytes);
  const auto count = static_cast<std::uint32_t>(std::min<std::size_t>(items_left_, numbers.size()));
  for (std::uint32_t i = 0; i < count && !planted(PlantedBug::replay_ignores_revokes); ++i)
    revokes_.push_back({BlockNo(numbers[i]), here});
  items_left_ -= count;
  if (revokes_.size() >= compact_at_) {
    compact_revokes();
    compact_at_ = std::max(compact_at_, 2 * revokes_.size());
  }
}

/// Keeps the last revoke of each block, in order of block.
void LogScan::compact_revokes() {
  std::sort(revokes_.begin(), revokes_.end(), [](const Revoke& a, const Revoke& b) {
    return a.block != b.block ? a.block < b.block : a.log_offset > b.log_offset;
  });
  auto end = std::unique(revokes_.begin(), revokes_.end(),
                         [](const Revoke& a, const Revoke& b) { return a.block == b.block; });
  revokes_.erase(end, revokes_.end());
}

void LogScan::settle_fates() {
  auto& blocks = plan_.blocks;
  std::sort(blocks.begin(), blocks.end(), [](const LoggedBlock& a, const LoggedBlock& b) {
    return a.place != b.place ? a.place < b.place : a.log_offset < b.log_offset;
  });
  auto revoke = revokes_.cbegin();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    LoggedBlock& block = blocks[i];
    while (revoke != revokes_.cend() && revoke->block < block.place)
      ++revoke;
    if (revoke != revokes_.cend() && revoke->block == block.place && block.log_offset < revoke->log_offset) {
      block.fate = LoggedBlock::Fate::revoked;
      continue;
    }
    ++plan_.replayed_blocks;
    // A state behind this one in the log is behind every revoke of the block too.
    if (i + 1 < blocks.size() && blocks[i + 1].place == block.place)
      block.fate = LoggedBlock::Fate::superseded;
    else
      ++plan_.written_blocks;
  }
}

Result<> LogScan::check_places(const WritableBlocks& writable) const {
  for (const LoggedBlock& block : plan_.blocks) {
    if (block.fate == LoggedBlock::Fate::revoked) continue;
    if (!writable.contains(block.place))
      return fail_corrupt(
          "journal block {}: logged for block {}, which is outside the volume or belongs to the superblock or a "
          "journal",
          journal_block(block.log_offset), block.place.value);
    if (!block.intact)
      return fail_corrupt("journal block {}: logged as metadata block {} but without the magic number",
                          journal_block(block.log_offset), block.place.value);
  }
  return {};
}

Result<LogPlan> LogScan::finish(const WritableBlocks& writable) && {
  CHECK_INVARIANT(next_ == active_ && left_ == 0);
  compact_revokes();
  plan_.revokes = revokes_.size();
  settle_fates();
  TRY_VOID(check_places(writable));
  return std::move(plan_);
}

namespace {

Task<Result<>> feed(LogReader& reader, std::uint32_t block_size, LogScan& scan) {
  for (;;) {
    CO_TRY(LogReader::Chunk chunk, co_await reader.next());
    if (chunk.bytes.empty()) co_return Result<>();
    for (; !chunk.bytes.empty(); chunk.bytes = chunk.bytes.subspan(block_size))
      CO_TRY_VOID(scan.add(chunk.bytes.first(block_size)));
  }
}

}  // namespace

Task<Result<LogPlan>> scan_log(JournalAccess journal, JournalHead head, const WritableBlocks& writable) {
  if (!head.found) co_return LogPlan{};
  LogScan scan(journal.geometry, head, journal.map.size_blocks());
  LogReader reader(journal);
  reader.request(head.tail, scan.active_blocks());
  Result<> fed = co_await feed(reader, journal.geometry.block_size(), scan);
  co_await reader.stop();
  CO_TRY_VOID(std::move(fed));
  co_return std::move(scan).finish(writable);
}

}  // namespace corral
