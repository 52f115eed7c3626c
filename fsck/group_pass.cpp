#include "fsck/group_pass.h"

#include <algorithm>
#include <cstring>

#include "offline/volume_reader.h"
#include "ondisk/checksum.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

constexpr std::uint64_t kLargestIndexBytes = std::uint64_t{1} << 28;
/// Space that could hold a group of any use.
constexpr std::uint64_t kLeastGroupBlocks = 64;

class GroupFinder {
 public:
  explicit GroupFinder(Volume& volume) : volume_(volume), first_(volume.geometry.superblock() + 1) {}

  Task<Result<>> run();
  std::vector<Group>& groups() { return groups_; }
  /// Empty: the index on the disk is right.
  const std::string& problem() const { return problem_; }

 private:
  void note(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
  }
  Task<Result<>> read_index();
  Task<Result<>> take_entry(const ResourceGroupIndexEntry& entry, std::uint64_t index);
  Task<Result<std::optional<Group>>> header_at(BlockNo block);
  bool overlaps(const Group& group) const;
  bool add(const Group& group);
  Task<Result<>> fill_gaps();
  Task<Result<>> fill_gap(BlockNo begin, BlockNo end);
  Task<Result<bool>> worth_searching(BlockNo begin, BlockNo end);
  std::optional<Group> group_of_whole_gap(BlockNo begin, BlockNo end) const;

  Volume& volume_;
  BlockNo first_;
  std::vector<Group> groups_;  ///< sorted, none overlapping
  std::vector<Group> doubtful_;
  std::uint64_t expected_ = 0;  ///< entries that the index has room for
  std::string problem_;
};

bool GroupFinder::overlaps(const Group& group) const {
  auto behind = std::ranges::upper_bound(groups_, group.addr, {}, &Group::addr);
  if (behind != groups_.end() && behind->addr < group.end()) return true;
  return behind != groups_.begin() && (behind - 1)->end() > group.addr;
}

bool GroupFinder::add(const Group& group) {
  if (overlaps(group)) return false;
  groups_.insert(std::ranges::upper_bound(groups_, group.addr, {}, &Group::addr), group);
  return true;
}

/// The group that a sound header describes; old kernels did not store its size.
Task<Result<std::optional<Group>>> GroupFinder::header_at(BlockNo block) {
  if (block < first_ || block.value >= volume_.blocks) co_return std::nullopt;
  CO_TRY(const BlockBytes bytes, co_await volume_.read(block));
  if (!has_meta_type(bytes, MetaType::resource_group)) co_return std::nullopt;
  const auto& header = view<ResourceGroup>(bytes);
  if (header.data0 == 0 || header.crc == 0 || header.crc != rgrp_crc(header)) co_return std::nullopt;
  Group group{.addr = block, .length = 0, .data0 = BlockNo(header.data0), .data = header.data};
  group.length = static_cast<std::uint32_t>(volume_.geometry.rgrp_length(header.bitmap_bytes));
  const ResourceGroupIndexEntry entry = index_entry(group);
  if (header.bitmap_bytes != entry.bitmap_bytes || !check_rindex_entry(entry, 0, volume_.geometry, volume_.blocks))
    co_return std::nullopt;
  co_return group;
}

Task<Result<>> GroupFinder::take_entry(const ResourceGroupIndexEntry& entry, std::uint64_t index) {
  if (auto sound = check_rindex_entry(entry, index, volume_.geometry, volume_.blocks); !sound) {
    note(sound.error().describe());
    co_return Result<>{};
  }
  Group group{.addr = BlockNo(entry.addr), .length = entry.length, .data0 = BlockNo(entry.data0), .data = entry.data};
  CO_TRY(const std::optional<Group> header, co_await header_at(group.addr));
  if (header && (header->data0 != group.data0 || header->data != group.data || header->length != group.length)) {
    note(fmt::format("rindex entry {}: {} data blocks from block {} on, but the group's header says {} from block {}",
                     index, group.data, group.data0.value, header->data, header->data0.value));
    group = *header;
  }
  CO_TRY(const BlockBytes block, co_await volume_.read(group.addr));
  const bool old_header = has_meta_type(block, MetaType::resource_group) && view<ResourceGroup>(block).data0 == 0;
  if (!header && !old_header) {
    doubtful_.push_back(group);
  } else if (!add(group)) {
    note(fmt::format("rindex entry {}: resource group {} overlaps with another", index, group.addr.value));
  }
  co_return Result<>{};
}

Task<Result<>> GroupFinder::read_index() {
  auto reader = co_await VolumeReader::open(volume_.disk);
  if (!reader) co_return std::unexpected(reader.error());
  auto inode = co_await reader->system_file("rindex");
  if (!inode && inode.error().kind() == ErrorKind::device) co_return std::unexpected(inode.error());
  if (!inode) {
    note("the file rindex: " + inode.error().describe());
    co_return Result<>{};
  }
  auto contents = co_await reader->read_contents(*inode, kLargestIndexBytes);
  if (!contents && contents.error().kind() == ErrorKind::device) co_return std::unexpected(contents.error());
  if (!contents) {
    note("the file rindex: " + contents.error().describe());
    co_return Result<>{};
  }
  expected_ = contents->size() / sizeof(ResourceGroupIndexEntry);
  if (contents->size() % sizeof(ResourceGroupIndexEntry) != 0)
    note(fmt::format("the file rindex is {} bytes long, which is no whole number of entries", contents->size()));
  for (std::uint64_t i = 0; i < expected_; ++i) {
    const auto& entry = view<ResourceGroupIndexEntry>(*contents, i * sizeof(ResourceGroupIndexEntry));
    if (i > 0 && !groups_.empty() && entry.addr < groups_.back().addr.value)
      note(fmt::format("rindex entry {}: resource group {} stands behind a later one", i, entry.addr.value()));
    CO_TRY_VOID(co_await take_entry(entry, i));
  }
  co_return Result<>{};
}

/// A space between groups hides one where the index is known to be wrong, or where a header stands in front of it.
Task<Result<bool>> GroupFinder::worth_searching(BlockNo begin, BlockNo end) {
  if (end - begin < kLeastGroupBlocks) co_return false;
  if (!problem_.empty() || !doubtful_.empty()) co_return true;
  CO_TRY(const std::optional<Group> here, co_await header_at(begin));
  if (here && here->end() <= end) co_return true;
  auto before = std::ranges::find(groups_, begin, &Group::end);
  if (before == groups_.end()) co_return false;
  CO_TRY(const BlockBytes bytes, co_await volume_.read(before->addr));
  const BlockNo next = before->addr + view<ResourceGroup>(bytes).skip;
  if (next < begin || next >= end) co_return false;
  CO_TRY(const std::optional<Group> skipped, co_await header_at(next));
  co_return skipped && skipped->end() <= end;
}

std::optional<Group> GroupFinder::group_of_whole_gap(BlockNo begin, BlockNo end) const {
  const std::uint64_t blocks = end - begin;
  for (std::uint64_t length = 1; length + 4 <= blocks; ++length) {
    const std::uint64_t bytes = (blocks - length) / kBlocksPerBitmapByte;
    if (bytes > volume_.geometry.rgrp_bitmap_bytes(length)) continue;
    return Group{.addr = begin,
                 .length = static_cast<std::uint32_t>(volume_.geometry.rgrp_length(bytes)),
                 .data0 = begin + length,
                 .data = static_cast<std::uint32_t>(bytes * kBlocksPerBitmapByte)};
  }
  return std::nullopt;
}

Task<Result<>> GroupFinder::fill_gap(BlockNo begin, BlockNo end) {
  CO_TRY(const bool search, co_await worth_searching(begin, end));
  if (!search) co_return Result<>{};
  for (BlockNo block = begin; block < end;) {
    CO_TRY(const std::optional<Group> group, co_await header_at(block));
    if (group && group->end() <= end && add(*group)) {
      note(fmt::format("rindex: no entry for resource group {}", block.value));
      block = group->end();
    } else {
      ++block;
    }
  }
  co_return Result<>{};
}

Task<Result<>> GroupFinder::fill_gaps() {
  const std::vector<Group> known = groups_;
  BlockNo begin = first_;
  for (const Group& group : known) {
    CO_TRY_VOID(co_await fill_gap(begin, group.addr));
    begin = group.end();
  }
  co_return co_await fill_gap(begin, BlockNo(volume_.blocks));
}

Task<Result<>> GroupFinder::run() {
  CO_TRY_VOID(co_await read_index());
  CO_TRY_VOID(co_await fill_gaps());
  // Entries whose header is lost are believed where no header speaks against them.
  for (const Group& group : doubtful_) {
    if (!add(group)) note(fmt::format("rindex: resource group {} overlaps with another", group.addr.value));
  }
  // What is left of the index is too little, and so are the headers: one group for one wide space.
  BlockNo begin = first_;
  const std::vector<Group> known = groups_;
  auto try_gap = [&](BlockNo end) {
    if (groups_.size() >= expected_ || end - begin < kLeastGroupBlocks) return;
    if (auto group = group_of_whole_gap(begin, end)) add(*group);
  };
  for (const Group& group : known) {
    try_gap(group.addr);
    begin = group.end();
  }
  try_gap(BlockNo(volume_.blocks));
  if (groups_.empty()) co_return fail_corrupt("{}: no resource group can be found", volume_.disk.name());
  co_return Result<>{};
}

/// Takes the states of one group's blocks as they are on the disk.
Task<Result<>> load_states(Volume& volume, Group& group) {
  std::uint64_t index = 0;
  const std::uint64_t bytes = group.data / kBlocksPerBitmapByte;
  for (std::uint32_t i = 0; i < group.length; ++i) {
    CO_TRY(const BlockBytes block, co_await volume.read(group.addr + i));
    const MetaType type = i == 0 ? MetaType::resource_group : MetaType::resource_group_bitmap;
    if (!has_meta_type(block, type)) group.lost = true;
    for (std::size_t at = bitmap_offset(i); at < block.size() && index < bytes; ++at, ++index)
      volume.map.set_on_disk_byte(group.first_index + index * kBlocksPerBitmapByte,
                                  static_cast<std::uint8_t>(block[at]));
  }
  co_return Result<>{};
}

}  // namespace

ResourceGroupIndexEntry index_entry(const Group& group) {
  ResourceGroupIndexEntry entry{};
  entry.addr = group.addr.value;
  entry.length = group.length;
  entry.data0 = group.data0.value;
  entry.data = group.data;
  entry.bitmap_bytes = group.data / kBlocksPerBitmapByte;
  return entry;
}

Task<Result<std::optional<std::vector<ResourceGroupIndexEntry>>>> load_groups(Volume& volume) {
  GroupFinder finder(volume);
  CO_TRY_VOID(co_await finder.run());
  std::optional<std::vector<ResourceGroupIndexEntry>> index;
  if (!finder.problem().empty()) {
    if (!volume.found(Kind::resource_index, BlockNo(0), finder.problem(),
                      fmt::format("write an index of {} resource groups", finder.groups().size())))
      co_return fail(ECANCELED, "without the resource groups nothing more can be checked");
    index.emplace();
    for (const Group& group : finder.groups())
      index->push_back(index_entry(group));
  }
  volume.map = BlockMap(std::move(finder.groups()));
  const std::size_t count = volume.map.groups().size();
  for (std::size_t i = 0; i < count; ++i) {
    volume.progress("resource groups", i, count);
    CO_TRY_VOID(co_await load_states(volume, volume.map.groups()[i]));
  }
  co_return index;
}

}  // namespace corral::fsck
