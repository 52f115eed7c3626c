#include "fsck/totals_pass.h"

#include <bit>
#include <optional>

#include "offline/volume_reader.h"
#include "ondisk/checksum.h"
#include "ondisk/statfs_file.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

struct Counts {
  std::uint64_t free = 0;
  std::uint64_t dinodes = 0;
};

/// By use, not by what the disk says.
Counts count_uses(const BlockMap& map, const Group& group) {
  Counts counts;
  for (std::uint64_t i = 0; i < group.data; i += kBlocksPerBitmapByte) {
    const unsigned byte = map.wanted_byte(group.first_index + i);
    const unsigned high = byte >> 1 & 0x55;
    const unsigned low = byte & 0x55;
    counts.free += static_cast<unsigned>(std::popcount(~(high | low) & 0x55u));
    counts.dinodes += static_cast<unsigned>(std::popcount(high & low));
  }
  return counts;
}

class GroupCheck {
 public:
  GroupCheck(Volume& volume, std::size_t index) : volume_(volume), index_(index), group_(volume.map.groups()[index]) {}

  Task<Result<>> run() {
    CO_TRY_VOID(co_await check_bitmap());
    co_return co_await check_header();
  }

 private:
  struct Difference {
    std::uint64_t blocks = 0;
    BlockNo first{};
  };
  Difference difference() const;
  Task<Result<>> check_bitmap();
  Task<Result<>> write_bitmap();
  Task<Result<>> check_header();
  ResourceGroup expected_header(const ResourceGroup& found) const;
  std::string header_problem(const ResourceGroup& found, const ResourceGroup& expected) const;

  Volume& volume_;
  std::size_t index_;
  const Group& group_;
};

GroupCheck::Difference GroupCheck::difference() const {
  Difference difference;
  for (std::uint64_t i = 0; i < group_.data; i += kBlocksPerBitmapByte) {
    const unsigned wrong =
        volume_.map.on_disk_byte(group_.first_index + i) ^ volume_.map.wanted_byte(group_.first_index + i);
    if (wrong == 0) continue;
    const unsigned blocks = (wrong | wrong >> 1) & 0x55;
    if (difference.blocks == 0)
      difference.first = group_.data0 + i + static_cast<unsigned>(std::countr_zero(blocks)) / 2;
    difference.blocks += static_cast<unsigned>(std::popcount(blocks));
  }
  return difference;
}

Task<Result<>> GroupCheck::check_bitmap() {
  const Difference wrong = difference();
  std::string problem;
  if (wrong.blocks > 0) {
    constexpr std::array<std::string_view, 4> kNames = {"free", "used", "unlinked", "dinode"};
    const auto found = static_cast<std::size_t>(volume_.map.on_disk(wrong.first));
    const auto expected = static_cast<std::size_t>(state_for(volume_.map.use(wrong.first)));
    problem = fmt::format("resource group {}: the bitmap is wrong for {} block{} (block {}: {}, expected {})",
                          group_.addr.value, wrong.blocks, wrong.blocks == 1 ? "" : "s", wrong.first.value,
                          kNames[found], kNames[expected]);
  }
  for (std::uint32_t i = 1; i < group_.length && problem.empty(); ++i) {
    CO_TRY(const BlockBytes block, co_await volume_.read(group_.addr + i));
    if (!has_meta_type(block, MetaType::resource_group_bitmap))
      problem =
          fmt::format("resource group {}: block {} is no bitmap block", group_.addr.value, (group_.addr + i).value);
  }
  if (problem.empty()) co_return Result<>{};
  if (!volume_.found(Kind::bitmap, group_.addr, problem, "write what the blocks are used for")) co_return Result<>{};
  co_return co_await write_bitmap();
}

Task<Result<>> GroupCheck::write_bitmap() {
  std::uint64_t index = 0;
  for (std::uint32_t i = 0; i < group_.length; ++i) {
    CO_TRY(BlockBytes block, co_await volume_.read(group_.addr + i));
    if (i > 0 && !has_meta_type(block, MetaType::resource_group_bitmap)) {
      std::fill_n(block.begin(), sizeof(MetaHeader), std::byte{0});
      view<MetaHeader>(block).set(MetaType::resource_group_bitmap);
    }
    for (std::size_t at = bitmap_offset(i); at < block.size() && index < group_.data;
         ++at, index += kBlocksPerBitmapByte)
      block[at] = static_cast<std::byte>(volume_.map.wanted_byte(group_.first_index + index));
    volume_.write(group_.addr + i, block);
  }
  co_return Result<>{};
}

ResourceGroup GroupCheck::expected_header(const ResourceGroup& found) const {
  const Counts counts = count_uses(volume_.map, group_);
  const bool whole = found.header.magic == kMagic && found.header.meta_type() == MetaType::resource_group;
  ResourceGroup header = whole ? found : ResourceGroup{};
  if (!whole && index_ + 1 < volume_.map.groups().size())
    header.skip = static_cast<std::uint32_t>(volume_.map.groups()[index_ + 1].addr - group_.addr);
  // Inodes to come take their numbers from here: none may come again.
  if (!whole) header.inode_generation = volume_.next_formal_ino;
  header.header.set(MetaType::resource_group);
  header.free = static_cast<std::uint32_t>(counts.free);
  header.dinodes = static_cast<std::uint32_t>(counts.dinodes);
  if (header.data0 != 0 || !whole) {
    header.data0 = group_.data0.value;
    header.data = group_.data;
    header.bitmap_bytes = group_.data / kBlocksPerBitmapByte;
  }
  // A checksum of 0 is one that was not kept; the others are made right.
  if (header.crc != 0 || !whole) header.crc = rgrp_crc(header);
  return header;
}

std::string GroupCheck::header_problem(const ResourceGroup& found, const ResourceGroup& expected) const {
  const std::uint64_t place = group_.addr.value;
  if (found.header.magic != kMagic || found.header.meta_type() != MetaType::resource_group)
    return fmt::format("resource group {}: magic {:#010x} and type {}, expected {:#010x} and 2", place,
                       found.header.magic.value(), found.header.type.value(), kMagic);
  if (found.free != expected.free || found.dinodes != expected.dinodes)
    return fmt::format("resource group {}: {} free blocks and {} dinodes, expected {} and {}", place,
                       found.free.value(), found.dinodes.value(), expected.free.value(), expected.dinodes.value());
  if (found.data0 != expected.data0 || found.data != expected.data || found.bitmap_bytes != expected.bitmap_bytes)
    return fmt::format("resource group {}: {} data blocks from block {} on, expected {} from {}", place,
                       found.data.value(), found.data0.value(), expected.data.value(), expected.data0.value());
  if (found.crc != expected.crc)
    return fmt::format("resource group {}: crc {:#010x}, expected {:#010x}", place, found.crc.value(),
                       expected.crc.value());
  return found.header.format == expected.header.format
             ? std::string()
             : fmt::format("resource group {}: format {}", place, found.header.format.value());
}

Task<Result<>> GroupCheck::check_header() {
  CO_TRY(BlockBytes block, co_await volume_.read(group_.addr));
  auto& found = view<ResourceGroup>(block);
  const ResourceGroup expected = expected_header(found);
  const std::string problem = header_problem(found, expected);
  if (problem.empty() || !volume_.found(Kind::resource_group, group_.addr, problem, "write the right header"))
    co_return Result<>{};
  found = expected;
  volume_.write(group_.addr, block);
  co_return Result<>{};
}

/// A stuffed file of struct gfs2_statfs_change, to be changed in place.
struct TotalsFile {
  BlockNo inode;
  BlockBytes block;
  StatfsChange& totals() { return view<StatfsChange>(block, sizeof(Dinode)); }
};

Task<Result<std::optional<TotalsFile>>> totals_file(Volume& volume, BlockNo inode) {
  TotalsFile file{inode, {}};
  CO_TRY(file.block, co_await volume.read(inode));
  if (!check_statfs_file(file.block, inode, volume.geometry)) co_return std::nullopt;
  co_return file;
}

}  // namespace

Task<Result<>> check_groups(Volume& volume) {
  const std::size_t count = volume.map.groups().size();
  for (std::size_t i = 0; i < count; ++i) {
    volume.progress("bitmaps", i, count);
    CO_TRY_VOID(co_await GroupCheck(volume, i).run());
  }
  co_return Result<>{};
}

Task<Result<>> check_statfs(Volume& volume) {
  StatfsChange right{};
  for (const Group& group : volume.map.groups()) {
    const Counts counts = count_uses(volume.map, group);
    right.total = right.total + group.data;
    right.free = right.free + counts.free;
    right.dinodes = right.dinodes + counts.dinodes;
  }
  auto reader = co_await VolumeReader::open(volume.disk);
  if (!reader) co_return std::unexpected(reader.error());
  auto master = co_await reader->system_file("statfs");
  auto per_node = co_await reader->system_file("per_node");
  // Without these the pass over the system files has had its say.
  if (!master || !per_node) co_return Result<>{};
  CO_TRY(std::optional<TotalsFile> file, co_await totals_file(volume, master->number()));
  auto local_files = co_await reader->list(*per_node);
  if (!file || !local_files) co_return Result<>{};
  StatfsChange sum = file->totals();
  std::vector<TotalsFile> locals;
  for (const OfflineDirent& entry : *local_files) {
    if (!entry.name.starts_with("statfs_change") || !volume.map.contains(entry.inode)) continue;
    CO_TRY(std::optional<TotalsFile> local, co_await totals_file(volume, entry.inode));
    if (!local) continue;
    sum.total = sum.total + local->totals().total;
    sum.free = sum.free + local->totals().free;
    sum.dinodes = sum.dinodes + local->totals().dinodes;
    locals.push_back(*std::move(local));
  }
  if (sum.total == right.total && sum.free == right.free && sum.dinodes == right.dinodes) co_return Result<>{};
  const bool accepted =
      volume.found(Kind::statfs, file->inode,
                   fmt::format("the file statfs says {} blocks, {} free and {} dinodes, expected {}, {} and {}",
                               sum.total.value(), sum.free.value(), sum.dinodes.value(), right.total.value(),
                               right.free.value(), right.dinodes.value()),
                   "write the right totals");
  if (!accepted) co_return Result<>{};
  for (TotalsFile& local : locals) {
    local.totals() = StatfsChange{};
    volume.write(local.inode, local.block);
  }
  file->totals() = right;
  volume.write(file->inode, file->block);
  co_return Result<>{};
}

}  // namespace corral::fsck
