/// The cluster area of a volume: where it lies, and reading and writing its records.
///
/// The area is the file "corral_cluster" of the master directory, contiguous and never moved, so it is read and written
/// past every cache and without locks. Writes are write-through. Who may write what: a slot its node alone (and, once
/// that is fenced and its journal replayed, the leader that frees it), the view its leader, the header an operator's
/// command. Errors are the device's, or corrupt ones with what is wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "base/task.h"
#include "cluster/area_format.h"
#include "disk/device.h"
#include "offline/volume_reader.h"

namespace corral::cluster {

/// What a slot's record was found to hold. A record that cannot be read is no reason to stop: whoever owns it writes it
/// anew.
struct FoundSlot {
  std::optional<Slot> slot;
  std::string problem;  ///< why there is none
};

class ClusterArea {
 public:
  /// `offset_bytes`: where the area begins on the device, a multiple of kRecordBytes. The device outlives the area.
  ClusterArea(Device& device, std::uint64_t offset_bytes);

  /// ENOENT where the volume has no cluster area; corrupt where its file is too small, has holes or is in pieces.
  static Task<Result<ClusterArea>> find(const VolumeReader& volume);

  std::uint64_t offset_bytes() const { return offset_bytes_; }
  Device& device() const { return *device_; }

  /// The copy in force. Fails only where neither copy can be used.
  Task<Result<Header>> read_header() const;
  /// Writes the copy that is not in force, with the next generation, then reads it back: EBUSY where somebody else's
  /// came out. Returns the header as it stands.
  Task<Result<Header>> write_header(Header header) const;

  Task<Result<ViewRecord>> read_view() const;
  /// Both in one read.
  struct HeaderAndView {
    Result<Header> header;
    Result<ViewRecord> view;
  };
  Task<Result<HeaderAndView>> read_header_and_view() const;
  /// As write_header(). `view.generation` is that of the record it is to follow.
  Task<Result<ViewRecord>> write_view(ViewRecord view) const;

  /// Slots 0 to count - 1, in one read.
  Task<Result<std::vector<FoundSlot>>> read_slots(std::uint32_t count) const;
  Task<Result<FoundSlot>> read_slot(NodeId id) const;
  Task<Result<>> write_slot(Slot slot) const;

  /// Header, empty view and free slots of a new area, as mkfs.corral writes them: kAreaBytes.
  static AlignedBuffer new_contents(const Header& header);

 private:
  Task<Result<AlignedBuffer>> read_records(std::uint64_t first, std::uint64_t count) const;
  template <class T>
  Task<Result<>> write_record(std::uint64_t index, void (*encode)(const T&, std::span<std::byte>), T contents) const;

  Device* device_;
  std::uint64_t offset_bytes_;
};

/// Where the area begins within its file's first extent: the first multiple of kRecordBytes.
std::uint64_t area_offset_in(std::uint64_t file_offset_bytes);

}  // namespace corral::cluster
