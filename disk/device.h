/// The seam to the shared disk: asynchronous vectored reads and writes, flush, write-through, discard.
///
/// Implementations: UringDevice (block device or image file), IscsiDevice (a LUN over the network), SimulatedDevice
/// (tests). The core sees a disk only through this interface, so a simulated disk can lose, tear and reorder what was
/// not flushed.
///
/// Ordering: operations in flight at the same time may land in any order; a later operation sees an earlier one only
/// when the earlier one was awaited first. Durability: a write is on stable storage when a flush() that was started
/// after the write's completion has completed, or at once if it was written with write_through.
///
/// Alignment: offsets, and each span's length, are multiples of geometry().sector_bytes; memory is aligned to
/// AlignedBuffer::kAlignment or at least to the sector size. Breaking this is a bug (checked).
///
/// Lifetime: the memory given stays valid until the operation has completed, even where the waiting frame is destroyed,
/// and what a write takes from does not change meanwhile: the device may read it at any moment, and more than once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "base/task.h"

namespace corral {

using ReadSpan = std::span<std::byte>;         ///< memory that a read fills
using WriteSpan = std::span<const std::byte>;  ///< memory that a write takes from

/// What a device tells about itself. All figures in bytes; 0 where the device does not say.
struct DeviceGeometry {
  std::uint64_t size_bytes = 0;
  std::uint32_t sector_bytes = 512;           ///< smallest unit of addressing (logical sector)
  std::uint32_t physical_sector_bytes = 512;  ///< smallest unit written without read-modify-write
  std::uint32_t minimum_io_bytes = 0;         ///< RAID stripe unit
  std::uint32_t optimal_io_bytes = 0;         ///< RAID stripe width
  std::uint32_t alignment_offset_bytes = 0;
  std::uint32_t discard_granularity_bytes = 0;  ///< 0: the device cannot discard
  bool volatile_write_cache = true;             ///< false: every completed write is stable, flush() has nothing to do
  bool read_only = false;
};

/// How a write must land.
enum class WriteMode {
  cached,         ///< may stay in the device's volatile cache until a flush
  write_through,  ///< stable when completed (FUA, or write and flush where the device has none)
};

class LifeLocks;
class Reservations;

class Device {
 public:
  virtual ~Device() = default;

  /// Path or address as the user gave it, for messages.
  virtual const std::string& name() const = 0;
  virtual const DeviceGeometry& geometry() const = 0;

  /// Fills the spans, in order, from `offset_bytes` on. Reading past the end is an error (EINVAL).
  virtual Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) = 0;
  /// Writes the spans, in order, from `offset_bytes` on. ENOSPC past the end of the device, EROFS on a read-only one.
  virtual Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) = 0;
  /// Makes every write that completed before the call stable.
  virtual Task<Result<>> flush() = 0;
  /// Tells the device that the range is not needed; its contents are undefined afterwards. EOPNOTSUPP if it cannot.
  virtual Task<Result<>> discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) = 0;

  /// Looks again how large the device is: geometry().size_bytes follows a device that has grown, and never one that has
  /// become smaller. What cannot grow need not look.
  virtual Task<Result<>> refresh_size();

  /// Persistent reservations, where the kind of device has them (whether this one does is for them to tell); null
  /// elsewhere. Lives as long as the device. A write that the disk refuses because of one fails with EBADE.
  virtual Reservations* reservations() { return nullptr; }
  /// Marks by which processes of this host tell who of them lives; null where the device is no file of this host's own.
  /// Lives as long as the device.
  virtual LifeLocks* life_locks() { return nullptr; }

  /// The whole of one span; see read() and write().
  Task<Result<>> read(std::uint64_t offset_bytes, ReadSpan span);
  Task<Result<>> write(std::uint64_t offset_bytes, WriteSpan span, WriteMode mode);
};

}  // namespace corral
