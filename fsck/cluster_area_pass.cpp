#include "fsck/cluster_area_pass.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/aligned_buffer.h"
#include "cluster/area.h"
#include "offline/volume_reader.h"
#include "ondisk/text_field.h"

namespace corral::fsck {

using cluster::ClusterArea;
using cluster::kRecordBytes;

namespace {

constexpr std::string_view kLockCorral = "lock_corral";

/// A record as it was found: its contents, or why it has none that can be used.
template <class T>
struct Found {
  std::optional<T> contents;
  std::string problem;  ///< empty for a record that is to be left alone
};

template <class T>
Found<T> found_of(Result<T> decoded) {
  if (decoded) return {*std::move(decoded), {}};
  // Of a version that is newer than this program.
  if (decoded.error().code() == EPROTONOSUPPORT) return {};
  return {{}, decoded.error().describe()};
}

class AreaPass {
 public:
  AreaPass(Volume& volume, ClusterArea area)
      : volume_(volume),
        area_(area),
        records_(cluster::kAreaBytes, false),
        block_(area.offset_bytes() >> volume.geometry.block_shift()) {}

  Task<Result<>> run();

 private:
  std::span<std::byte> record(std::uint64_t index) {
    return records_.span().subspan(index * kRecordBytes, kRecordBytes);
  }
  template <class T>
  std::optional<T> check_copies(std::uint64_t first, Result<T> (*decode)(std::span<const std::byte>),
                                void (*encode)(const T&, std::span<std::byte>));
  void check_slots();
  void derive_view();
  void put(std::uint64_t index) { volume_.disk.put(area_.offset_bytes() + index * kRecordBytes, record(index)); }
  std::uint64_t place(std::uint64_t index) const { return area_.offset_bytes() + index * kRecordBytes; }

  Volume& volume_;
  ClusterArea area_;
  AlignedBuffer records_;
  BlockNo block_;
  std::optional<cluster::Header> header_;
  std::uint64_t highest_view_ = 0;
};

/// The copy in force; none where both are damaged.
template <class T>
std::optional<T> AreaPass::check_copies(std::uint64_t first, Result<T> (*decode)(std::span<const std::byte>),
                                        void (*encode)(const T&, std::span<std::byte>)) {
  std::array<Found<T>, 2> copies{found_of(decode(record(first))), found_of(decode(record(first + 1)))};
  for (std::uint64_t damaged : {0, 1}) {
    const std::optional<T>& other = copies[1 - damaged].contents;
    if (copies[damaged].problem.empty() || !other) continue;
    if (!volume_.found(
            Kind::cluster_area, block_,
            fmt::format("{} (copy {}, at byte {})", copies[damaged].problem, damaged, place(first + damaged)),
            "write it from the other copy"))
      continue;
    T contents = *other;
    // Each copy has the generations of one parity; the one in force stays so, or the new one says the same.
    contents.generation = other->generation == 0 ? 1 : other->generation - 1;
    encode(contents, record(first + damaged));
    put(first + damaged);
  }
  if (!copies[0].contents || !copies[1].contents) return copies[0].contents ? copies[0].contents : copies[1].contents;
  return copies[0].contents->generation >= copies[1].contents->generation ? copies[0].contents : copies[1].contents;
}

void AreaPass::check_slots() {
  for (std::uint32_t id = 0; id < cluster::kSlots; ++id) {
    const std::uint64_t index = cluster::kFirstSlotRecord + id;
    Found<cluster::Slot> slot = found_of(cluster::decode_slot(record(index), NodeId(id)));
    if (slot.contents && header_ && slot.contents->cluster != header_->cluster)
      slot = {{}, fmt::format("cluster area: slot {} is of another cluster", id)};
    if (slot.contents) highest_view_ = std::max(highest_view_, slot.contents->view.value);
    if (slot.problem.empty() || !header_) continue;
    if (!volume_.found(Kind::cluster_area, block_, fmt::format("{} (at byte {})", slot.problem, place(index)),
                       "make it a free slot"))
      continue;
    cluster::encode_slot({.id = NodeId(id), .cluster = header_->cluster}, record(index));
    put(index);
  }
}

/// Nobody is a member; whoever died as one is known by its slot.
void AreaPass::derive_view() {
  if (!volume_.found(Kind::cluster_area, block_, "cluster area: both copies of the view are damaged",
                     fmt::format("write an empty view, numbered {}", highest_view_)))
    return;
  for (std::uint64_t copy : {0, 1}) {
    cluster::ViewRecord view{.generation = copy, .cluster = header_->cluster};
    view.view.number = ViewNumber(highest_view_);
    cluster::encode_view(view, record(cluster::kViewRecord + copy));
    put(cluster::kViewRecord + copy);
  }
}

Task<Result<>> AreaPass::run() {
  CO_TRY_VOID(co_await volume_.disk.read(area_.offset_bytes(), records_.span()));
  header_ = check_copies<cluster::Header>(cluster::kHeaderRecord, cluster::decode_header, cluster::encode_header);
  const bool newer = !header_ && found_of(cluster::decode_header(record(0))).problem.empty();
  if (!header_ && !newer &&
      volume_.found(Kind::cluster_area, block_,
                    "cluster area: both copies of the header, with the cluster's secret, "
                    "are damaged",
                    "none from here: corral release and corral adopt make a new area"))
    volume_.findings.failed();
  check_slots();
  const auto view = check_copies<cluster::ViewRecord>(cluster::kViewRecord, cluster::decode_view, cluster::encode_view);
  const bool newer_view = !view && found_of(cluster::decode_view(record(cluster::kViewRecord))).problem.empty();
  if (!view && !newer_view && header_) derive_view();
  co_return Result<>{};
}

}  // namespace

Task<Result<>> check_cluster_area(Volume& volume) {
  const bool ours = ondisk::text_of(volume.superblock.lock_protocol) == kLockCorral;
  CO_TRY(VolumeReader reader, co_await VolumeReader::open(volume.disk));
  auto area = co_await ClusterArea::find(reader);
  if (!area && area.error().kind() == ErrorKind::device) co_return std::unexpected(area.error());
  if (!area && !ours && area.error().code() == ENOENT) co_return Result<>{};
  if (!area) {
    if (volume.found(Kind::cluster_area, volume.master(), area.error().describe(),
                     "none from here: corral adopt adds a new area where there is none"))
      volume.findings.failed();
    co_return Result<>{};
  }
  co_return co_await AreaPass(volume, *area).run();
}

}  // namespace corral::fsck
