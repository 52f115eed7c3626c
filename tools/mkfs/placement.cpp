#include "tools/mkfs/placement.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace corral::mkfs {

using namespace ondisk;

namespace {

/// Free space that the smallest volume has besides its system files.
constexpr std::uint64_t kLeastFreeBytes = kMebibyte;
/// Every group costs a lock and a record to read at mount; few of them make nodes meet.
constexpr std::uint64_t kUsualGroupMebibytes = 256;
constexpr std::uint64_t kManyGroups = 4096;
constexpr std::uint64_t kGroupsPerJournal = 2;

/// The size that suits a volume of so many bytes.
std::uint32_t usual_journal_mebibytes(std::uint64_t volume_bytes) {
  struct Step {
    std::uint64_t below_mebibytes;
    std::uint32_t journal_mebibytes;
  };
  constexpr std::uint64_t kGibibyteInMebibytes = 1024;
  constexpr std::uint64_t kTebibyteInMebibytes = 1024 * 1024;
  for (const Step& step :
       {Step{512, 8}, Step{2 * kGibibyteInMebibytes, 16}, Step{8 * kGibibyteInMebibytes, 32},
        Step{16 * kGibibyteInMebibytes, 64}, Step{kTebibyteInMebibytes, 128}, Step{10 * kTebibyteInMebibytes, 512}}) {
    if (volume_bytes < step.below_mebibytes * kMebibyte) return step.journal_mebibytes;
  }
  return kMaxJournalMebibytes;
}

class Placer {
 public:
  Placer(const FormatOptions& options, const DeviceGeometry& device, const DirectorySizes& directories)
      : options_(options), device_(device), directories_(directories), geometry_(options.block_size) {}

  Result<Placement> place();

 private:
  std::uint64_t blocks_of(std::uint64_t mebibytes) const { return mebibytes * kMebibyte >> geometry_.block_shift(); }
  std::uint64_t bytes_of(std::uint64_t blocks) const { return blocks << geometry_.block_shift(); }
  Result<std::uint64_t> volume_blocks() const;
  GroupAlignment alignment() const;
  NodeFiles node_files(BlockNo data0) const;
  std::uint64_t node_span() const {
    return alignment_.span_for(group_with_data(geometry_, node_files(BlockNo(0)).blocks()).blocks());
  }
  std::uint64_t rindex_data_blocks(std::uint64_t groups) const;
  SystemFiles system_files(BlockNo data0, std::uint64_t groups) const;
  std::uint64_t system_blocks(std::uint64_t groups) const;
  std::uint64_t least_general_span() const;
  std::uint64_t least_volume_bytes() const;
  std::uint64_t general_group_mebibytes(std::uint64_t blocks) const;
  void choose_journal_size();
  void append_group(BlockNo addr, std::uint64_t span);
  Result<> place_nodes();
  Result<> place_general();

  const FormatOptions& options_;
  const DeviceGeometry& device_;
  const DirectorySizes& directories_;
  Geometry geometry_;
  GroupAlignment alignment_;
  std::uint64_t volume_blocks_ = 0;
  std::uint32_t journal_mebibytes_ = kMinJournalMebibytes;
  BlockNo next_{};
  std::vector<PlacedGroup> groups_;
  std::vector<NodeFiles> nodes_;
};

Result<std::uint64_t> Placer::volume_blocks() const {
  if (options_.block_size < device_.sector_bytes)
    return fail(EINVAL, "blocks of {} bytes are smaller than the device's sectors of {} bytes: choose -b {}",
                options_.block_size, device_.sector_bytes, device_.sector_bytes);
  const std::uint64_t device_blocks = device_.size_bytes >> geometry_.block_shift();
  if (options_.block_count.value_or(0) > device_blocks)
    return fail(EINVAL, "{} blocks of {} bytes are more than the device holds ({})", *options_.block_count,
                options_.block_size, device_blocks);
  return options_.block_count.value_or(device_blocks);
}

GroupAlignment Placer::alignment() const {
  if (!options_.align) return {};
  const Stripe stripe =
      options_.stripe.value_or(Stripe{.unit_bytes = device_.minimum_io_bytes, .width_bytes = device_.optimal_io_bytes});
  return GroupAlignment::of_stripes(geometry_, stripe.unit_bytes, stripe.width_bytes, device_.alignment_offset_bytes);
}

NodeFiles Placer::node_files(BlockNo data0) const {
  const FileTree journal(geometry_, data0, blocks_of(journal_mebibytes_));
  const BlockNo behind = data0 + journal.blocks();
  return {.journal = journal,
          .inum_range = behind,
          .statfs_change = behind + 1,
          .quota_change = FileTree(geometry_, behind + 2, blocks_of(options_.quota_change_mebibytes))};
}

std::uint64_t Placer::rindex_data_blocks(std::uint64_t groups) const {
  const std::uint64_t bytes = groups * sizeof(ResourceGroupIndexEntry);
  return bytes <= geometry_.stuffed_bytes() ? 0 : geometry_.blocks_for(bytes);
}

SystemFiles Placer::system_files(BlockNo data0, std::uint64_t groups) const {
  SystemFiles files{};
  BlockNo next = data0;
  auto take = [&](std::uint64_t blocks) { return std::exchange(next, next + blocks); };
  files.root = take(1);
  files.master = take(directories_.master_blocks);
  files.jindex = take(directories_.jindex_blocks);
  files.per_node = take(directories_.per_node_blocks);
  files.inum = take(1);
  files.statfs = take(1);
  files.quota = take(1);
  files.rindex_data_blocks = rindex_data_blocks(groups);
  files.rindex = take(files.rindex_data_blocks == 0 ? 1 : FileTree(geometry_, next, files.rindex_data_blocks).blocks());
  if (has_cluster_area(options_))
    files.cluster_area =
        FileTree(geometry_, next, geometry_.blocks_for(cluster::area_file_bytes(geometry_.block_size())));
  return files;
}

std::uint64_t Placer::system_blocks(std::uint64_t groups) const {
  const SystemFiles files = system_files(BlockNo(0), groups);
  if (files.cluster_area) return (files.cluster_area->dinode() + files.cluster_area->blocks()).value;
  const std::uint64_t data = files.rindex_data_blocks;
  return files.rindex.value + (data == 0 ? 1 : FileTree(geometry_, files.rindex, data).blocks());
}

std::uint64_t Placer::least_general_span() const {
  const std::uint64_t data = system_blocks(options_.journals + 1) + geometry_.blocks_for(kLeastFreeBytes);
  return alignment_.span_for(group_with_data(geometry_, data).blocks());
}

std::uint64_t Placer::least_volume_bytes() const {
  const BlockNo first = alignment_.align(geometry_.superblock() + 1);
  return bytes_of(first.value + options_.journals * node_span() + least_general_span());
}

void Placer::choose_journal_size() {
  if (options_.journal_mebibytes) {
    journal_mebibytes_ = *options_.journal_mebibytes;
    return;
  }
  // Unasked, all journals together take no more than half of the volume.
  const std::uint64_t bytes = bytes_of(volume_blocks_);
  const std::uint64_t half = bytes / kMebibyte / options_.journals / 2;
  journal_mebibytes_ =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>(half, kMinJournalMebibytes, usual_journal_mebibytes(bytes)));
}

void Placer::append_group(BlockNo addr, std::uint64_t span) {
  auto shape = group_within(geometry_, span);
  CHECK_INVARIANT(shape.has_value());
  if (!groups_.empty()) groups_.back().skip = static_cast<std::uint32_t>(addr - groups_.back().addr);
  groups_.push_back({.addr = addr, .shape = *shape});
}

Result<> Placer::place_nodes() {
  const std::uint64_t least = least_volume_bytes();
  if (bytes_of(volume_blocks_) < least) {
    const bool could_need_less = options_.journals > 1 || journal_mebibytes_ > kMinJournalMebibytes;
    return fail(ENOSPC, "{} bytes are too small for {} journal{} of {} MiB: at least {} bytes ({} MiB) are needed{}",
                bytes_of(volume_blocks_), options_.journals, options_.journals == 1 ? "" : "s", journal_mebibytes_,
                least, (least + kMebibyte - 1) / kMebibyte,
                could_need_less ? "; smaller or fewer journals (-J, -j) need less" : "");
  }
  for (std::uint32_t node = 0; node < options_.journals; ++node) {
    append_group(next_, node_span());
    PlacedGroup& group = groups_.back();
    const NodeFiles& files = nodes_.emplace_back(node_files(group.data0()));
    group.used = files.blocks();
    group.dinodes = {files.journal.dinode(), files.inum_range, files.statfs_change, files.quota_change.dinode()};
    next_ += node_span();
  }
  return {};
}

std::uint64_t Placer::general_group_mebibytes(std::uint64_t blocks) const {
  if (options_.resource_group_mebibytes) return *options_.resource_group_mebibytes;
  const std::uint64_t mebibytes = bytes_of(blocks) / kMebibyte;
  std::uint64_t size = kUsualGroupMebibytes;
  while (size < kMaxResourceGroupMebibytes && mebibytes / size > kManyGroups)
    size *= 2;
  if (options_.journals == 1) return size;
  const std::uint64_t share = mebibytes / (kGroupsPerJournal * options_.journals);
  return std::clamp<std::uint64_t>(share, kMinResourceGroupMebibytes, size);
}

Result<> Placer::place_general() {
  const std::uint64_t blocks = volume_blocks_ - next_.value;
  const std::uint64_t wanted = blocks_of(general_group_mebibytes(blocks));
  std::uint64_t count = std::max<std::uint64_t>(1, (blocks + wanted - 1) / wanted);
  std::vector<std::uint64_t> spans;
  // Where whole stripes do not go into so many groups, fewer must do.
  for (; count > 0 && spans.empty(); --count)
    spans = divide_evenly(geometry_, alignment_, blocks, count);
  CHECK_INVARIANT(!spans.empty());
  for (std::uint64_t span : spans) {
    append_group(next_, span);
    next_ += span;
  }
  PlacedGroup& first = groups_[nodes_.size()];
  first.used = system_blocks(groups_.size());
  if (first.used > first.shape.data)
    return fail(EINVAL,
                "{} resource groups need an index of {} blocks, more than the {} blocks that one of them holds: choose "
                "larger ones (-r)",
                groups_.size(), rindex_data_blocks(groups_.size()), first.shape.data);
  return {};
}

Result<Placement> Placer::place() {
  TRY(volume_blocks_, volume_blocks());
  alignment_ = alignment();
  next_ = alignment_.align(geometry_.superblock() + 1);
  choose_journal_size();
  TRY_VOID(place_nodes());
  TRY_VOID(place_general());
  const SystemFiles system = system_files(groups_[nodes_.size()].data0(), groups_.size());
  groups_[nodes_.size()].dinodes = {system.root, system.master, system.jindex, system.per_node,
                                    system.inum, system.statfs, system.quota,  system.rindex};
  if (system.cluster_area) groups_[nodes_.size()].dinodes.push_back(system.cluster_area->dinode());
  return Placement{.geometry = geometry_,
                   .volume_blocks = volume_blocks_,
                   .journal_mebibytes = journal_mebibytes_,
                   .alignment = alignment_,
                   .groups = std::move(groups_),
                   .nodes = std::move(nodes_),
                   .system = system};
}

}  // namespace

Result<Placement> place_volume(const FormatOptions& options, const DeviceGeometry& device,
                               const DirectorySizes& directories) {
  return Placer(options, device, directories).place();
}

}  // namespace corral::mkfs
