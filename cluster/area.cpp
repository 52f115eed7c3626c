#include "cluster/area.h"

#include <utility>

#include "base/check.h"

namespace corral::cluster {

namespace {

/// Of an AlignedBuffer, const or not.
auto record_of(auto& records, std::uint64_t index) {
  return records.span().subspan(index * kRecordBytes, kRecordBytes);
}

FoundSlot found_slot(std::span<const std::byte> record, NodeId id) {
  Result<Slot> slot = decode_slot(record, id);
  return slot ? FoundSlot{*std::move(slot), {}} : FoundSlot{{}, slot.error().describe()};
}

/// Of the two copies from record `at` on, the usable one with the higher generation; the first one's error where there
/// is none.
template <class T>
Result<T> newest(const AlignedBuffer& records, std::uint64_t at, Result<T> (*decode)(std::span<const std::byte>)) {
  Result<T> first = decode(record_of(records, at));
  Result<T> second = decode(record_of(records, at + 1));
  if (!second) return first;
  if (!first) return second;
  return first->generation >= second->generation ? first : second;
}

/// Generation n stands in copy n % 2, so the next one never overwrites the one in force.
std::uint64_t copy_of(std::uint64_t generation) {
  return generation % 2;
}

}  // namespace

std::uint64_t area_offset_in(std::uint64_t file_offset_bytes) {
  return (file_offset_bytes + kRecordBytes - 1) / kRecordBytes * kRecordBytes;
}

ClusterArea::ClusterArea(Device& device, std::uint64_t offset_bytes) : device_(&device), offset_bytes_(offset_bytes) {
  CHECK_INVARIANT(offset_bytes % kRecordBytes == 0);
}

Task<Result<ClusterArea>> ClusterArea::find(const VolumeReader& volume) {
  Result<OfflineInode> inode = co_await volume.system_file(std::string(kAreaFileName));
  if (!inode && inode.error().code() == ENOENT)
    co_return fail(ENOENT, "{}: the volume has no cluster area: corral adopt adds one", volume.device().name());
  if (!inode) co_return std::unexpected(std::move(inode).error());
  const ondisk::Geometry& geometry = volume.geometry();
  const std::uint64_t bytes = area_file_bytes(geometry.block_size());
  if (inode->size_bytes() < bytes || inode->dinode().height == 0)
    co_return fail_corrupt("inode {}: cluster area of {} bytes, expected {}", inode->number().value,
                           inode->size_bytes(), bytes);
  const std::uint64_t blocks = geometry.blocks_for(bytes);
  CO_TRY(std::vector<FileExtent> extents, co_await volume.map(*inode, FileBlock(blocks)));
  if (extents.size() != 1 || extents[0].first != FileBlock(0) || extents[0].length < blocks)
    co_return fail_corrupt("inode {}: cluster area is not in one piece", inode->number().value);
  co_return ClusterArea(volume.device(), area_offset_in(geometry.offset_bytes(extents[0].start)));
}

Task<Result<AlignedBuffer>> ClusterArea::read_records(std::uint64_t first, std::uint64_t count) const {
  AlignedBuffer buffer(count * kRecordBytes, false);
  CO_TRY_VOID(co_await device_->read(offset_bytes_ + first * kRecordBytes, buffer.span()));
  co_return buffer;
}

template <class T>
Task<Result<>> ClusterArea::write_record(std::uint64_t index, void (*encode)(const T&, std::span<std::byte>),
                                         T contents) const {
  AlignedBuffer record(kRecordBytes);
  encode(contents, record.span());
  co_return co_await device_->write(offset_bytes_ + index * kRecordBytes, record.span(), WriteMode::write_through);
}

Task<Result<Header>> ClusterArea::read_header() const {
  CO_TRY(AlignedBuffer copies, co_await read_records(kHeaderRecord, 2));
  co_return newest<Header>(copies, 0, decode_header);
}

Task<Result<Header>> ClusterArea::write_header(Header header) const {
  ++header.generation;
  CO_TRY_VOID(co_await write_record(kHeaderRecord + copy_of(header.generation), encode_header, header));
  CO_TRY(Header found, co_await read_header());
  if (found != header)
    co_return fail(EBUSY, "{}: another node changed the cluster's settings at the same time: try again",
                   device_->name());
  co_return found;
}

Task<Result<ViewRecord>> ClusterArea::read_view() const {
  CO_TRY(AlignedBuffer copies, co_await read_records(kViewRecord, 2));
  co_return newest<ViewRecord>(copies, 0, decode_view);
}

Task<Result<ClusterArea::HeaderAndView>> ClusterArea::read_header_and_view() const {
  static_assert(kViewRecord == kHeaderRecord + 2);
  CO_TRY(AlignedBuffer copies, co_await read_records(kHeaderRecord, 4));
  co_return HeaderAndView{newest<Header>(copies, kHeaderRecord, decode_header),
                          newest<ViewRecord>(copies, kViewRecord, decode_view)};
}

Task<Result<ViewRecord>> ClusterArea::write_view(ViewRecord view) const {
  ++view.generation;
  CO_TRY_VOID(co_await write_record(kViewRecord + copy_of(view.generation), encode_view, view));
  CO_TRY(ViewRecord found, co_await read_view());
  if (found != view)
    co_return fail(EBUSY, "{}: another node recorded view {} in place of {}", device_->name(), found.view.number.value,
                   view.view.number.value);
  co_return found;
}

Task<Result<std::vector<FoundSlot>>> ClusterArea::read_slots(std::uint32_t count) const {
  CHECK_INVARIANT(count <= kSlots);
  CO_TRY(AlignedBuffer records, co_await read_records(kFirstSlotRecord, count));
  std::vector<FoundSlot> slots;
  slots.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    slots.push_back(found_slot(record_of(records, i), NodeId(i)));
  }
  co_return slots;
}

Task<Result<FoundSlot>> ClusterArea::read_slot(NodeId id) const {
  CHECK_INVARIANT(id.value < kSlots);
  CO_TRY(AlignedBuffer record, co_await read_records(kFirstSlotRecord + id.value, 1));
  co_return found_slot(record.span(), id);
}

Task<Result<>> ClusterArea::write_slot(Slot slot) const {
  co_return co_await write_record(kFirstSlotRecord + slot.id.value, encode_slot, slot);
}

AlignedBuffer ClusterArea::new_contents(const Header& header) {
  AlignedBuffer area(kAreaBytes);
  for (std::uint64_t copy : {0, 1}) {
    Header one = header;
    one.generation = copy;
    encode_header(one, record_of(area, kHeaderRecord + copy));
    encode_view({.generation = copy, .cluster = header.cluster}, record_of(area, kViewRecord + copy));
  }
  for (std::uint32_t slot = 0; slot < kSlots; ++slot)
    encode_slot({.id = NodeId(slot), .cluster = header.cluster}, record_of(area, kFirstSlotRecord + slot));
  return area;
}

}  // namespace corral::cluster
