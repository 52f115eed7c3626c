#include "tools/corral/quota_check.h"

#include <algorithm>
#include <cstring>

#include "fs/bitmap.h"
#include "tools/adopt/group_blocks.h"
#include "tools/corral/space_report.h"

namespace corral {

using namespace ondisk;

namespace {

/// Dinodes that lie behind each other are read together, up to so many bytes.
constexpr std::size_t kReadBytes = 1 << 20;

/// Reads the blocks of a file one extent after another and hands each over with its place in the file, in order; holes
/// are left out.
template <class Visit>
Task<Result<>> for_file_blocks(const VolumeReader& volume, const OfflineInode& inode, Visit visit) {
  const FileBlock end(volume.geometry().blocks_for(inode.size_bytes()));
  CO_TRY(const std::vector<FileExtent> extents, co_await volume.map(inode, end));
  for (const FileExtent& extent : extents)
    for (std::uint64_t i = 0; i < extent.length; ++i) {
      CO_TRY(const AlignedBuffer block, co_await volume.read_block(extent.start + i));
      CO_TRY_VOID(visit(extent.first + i, extent.start + i, block.span()));
    }
  co_return Result<>{};
}

/// Records straddle blocks: their usage is put together from bytes.
class UsageBytes {
 public:
  void add(std::uint64_t offset, std::span<const std::byte> piece) {
    for (std::size_t at = 0; at < piece.size();) {
      const std::uint64_t record = (offset + at) / sizeof(Quota);
      const std::size_t within = (offset + at) % sizeof(Quota);
      const std::size_t length = std::min(sizeof(Quota) - within, piece.size() - at);
      const auto part = piece.subspan(at, length);
      at += length;
      if (std::ranges::all_of(part, [](std::byte byte) { return byte == std::byte{0}; })) continue;
      std::ranges::copy(part, std::as_writable_bytes(std::span(&records_[record], 1)).subspan(within).begin());
    }
  }
  void add_to(QuotaUsage& usage) const {
    for (const auto& [number, record] : records_)
      if (record.value != 0) usage[QuotaId::of_record(number)] = static_cast<std::int64_t>(record.value.value());
  }

 private:
  std::map<std::uint64_t, Quota> records_;
};

Task<Result<>> add_quota_file(const VolumeReader& volume, QuotaUsage& usage) {
  CO_TRY(const OfflineInode inode, co_await volume.system_file("quota"));
  UsageBytes records;
  if (inode.dinode().height == 0) {
    const std::size_t size = std::min<std::uint64_t>(inode.size_bytes(), volume.geometry().stuffed_bytes());
    records.add(0, inode.block().subspan(sizeof(Dinode), size));
  } else {
    CO_TRY_VOID(co_await for_file_blocks(
        volume, inode, [&](FileBlock at, BlockNo, std::span<const std::byte> block) -> Result<> {
          const std::uint64_t offset = at.value << volume.geometry().block_shift();
          records.add(offset, block.first(std::min<std::uint64_t>(block.size(), inode.size_bytes() - offset)));
          return {};
        }));
  }
  records.add_to(usage);
  co_return Result<>{};
}

/// True if the node of that journal has left changes.
Task<Result<bool>> add_changes(const VolumeReader& volume, const OfflineInode& inode, QuotaUsage& usage) {
  bool any = false;
  CO_TRY_VOID(co_await for_file_blocks(
      volume, inode, [&](FileBlock, BlockNo address, std::span<const std::byte> block) -> Result<> {
        TRY(const auto changes, quota_changes(block, address));
        for (const QuotaChange& change : changes) {
          if (change.change == 0) continue;
          any = true;
          const auto kind = (change.flags & kQuotaChangeUser) != 0 ? QuotaKind::user : QuotaKind::group;
          usage[{kind, change.id}] += static_cast<std::int64_t>(change.change.value());
        }
        return {};
      }));
  co_return any;
}

Result<> add_dinode(std::span<const std::byte> block, BlockNo number, const Geometry& geometry, QuotaUsage& usage) {
  if (const Result<> sound = check_dinode(block, number, geometry); !sound)
    return fail_corrupt("{}; run fsck.corral first", sound.error().describe());
  const auto& dinode = view<Dinode>(block);
  if ((dinode.flags & kDinodeSystem) != 0) return {};
  const auto blocks = static_cast<std::int64_t>(dinode.blocks.value());
  usage[{QuotaKind::user, dinode.uid}] += blocks;
  usage[{QuotaKind::group, dinode.gid}] += blocks;
  return {};
}

Task<Result<>> add_group(const VolumeReader& volume, ResourceGroupIndexEntry entry, QuotaUsage& usage) {
  CO_TRY(const std::vector<std::byte> bytes, co_await read_bitmap(volume, entry));
  const BitmapView bitmap(bytes);
  const Geometry& geometry = volume.geometry();
  const std::uint32_t block_size = geometry.block_size();
  const auto end = std::min<std::uint32_t>(bitmap.blocks(), entry.data);
  const auto holds_dinode = [&](std::uint32_t at) {
    const BlockState state = bitmap.at(at);
    return state == BlockState::dinode || state == BlockState::unlinked;
  };
  AlignedBuffer buffer(kReadBytes, false);
  for (std::uint32_t at = 0; at < end;) {
    std::uint32_t next = at;
    while (next < end && next - at < kReadBytes / block_size && holds_dinode(next))
      ++next;
    if (next == at) {
      at = std::min(bitmap.find(BlockState::dinode, at), bitmap.find(BlockState::unlinked, at));
      continue;
    }
    const BlockNo first(entry.data0 + at);
    const auto run = buffer.span().first(std::size_t{next - at} * block_size);
    CO_TRY_VOID(co_await volume.device().read(geometry.offset_bytes(first), run));
    for (std::uint32_t i = 0; i < next - at; ++i)
      CO_TRY_VOID(add_dinode(run.subspan(std::size_t{i} * block_size, block_size), first + i, geometry, usage));
    at = next;
  }
  co_return Result<>{};
}

}  // namespace

Task<Result<QuotaBooks>> read_quota_books(const VolumeReader& volume) {
  QuotaBooks books;
  CO_TRY_VOID(co_await add_quota_file(volume, books.recorded));
  for (JournalId id(0);; id = JournalId(id.value + 1)) {
    auto inode = co_await volume.system_file(fmt::format("per_node/quota_change{}", id.value));
    if (!inode && inode.error().code() == ENOENT) break;
    if (!inode) co_return std::unexpected(inode.error());
    CO_TRY(const bool any, co_await add_changes(volume, *inode, books.recorded));
    if (any) books.with_changes.push_back(id);
  }
  co_return books;
}

Task<Result<QuotaUsage>> count_usage(const VolumeReader& volume, std::stop_token stop) {
  QuotaUsage usage;
  CO_TRY(const std::vector<ResourceGroupIndexEntry> entries, co_await read_rindex(volume));
  for (const ResourceGroupIndexEntry& entry : entries) {
    if (stop.stop_requested()) co_return fail(ECANCELED, "{}: counting was stopped", volume.device().name());
    CO_TRY_VOID(co_await add_group(volume, entry, usage));
  }
  co_return usage;
}

std::vector<QuotaDifference> compare(const QuotaUsage& recorded, const QuotaUsage& used) {
  std::map<QuotaId, QuotaDifference> all;
  for (const auto& [id, blocks] : recorded)
    all[id].recorded = blocks;
  for (const auto& [id, blocks] : used)
    all[id].used = blocks;
  std::vector<QuotaDifference> differences;
  for (auto& [id, difference] : all) {
    difference.id = id;
    if (difference.recorded != difference.used) differences.push_back(difference);
  }
  return differences;
}

}  // namespace corral
