/// A disk in memory as the storage sees it: contents, a volatile write cache, persistent reservations, and a numbered
/// log of all that happened, from which the contents after a power cut at any moment can be made. One or more
/// SimulatedDevices (one per node) drive it.
///
/// What a cut may leave behind, sector by sector: what was stable (written through, or complete before a flush that has
/// itself completed began) is there; of each write or discard that was not, any sectors may have landed, the later one
/// winning where completed ones overlap; those in flight together land in any order.
///
/// The log is a list of events, an operation's begin and its end being one each. A cut "at event n" comes after the
/// first n events; n from 0 to event_count() are the moments that differ.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/random.h"
#include "disk/device.h"
#include "disk/disk_image.h"
#include "disk/reservation_table.h"

namespace corral {

/// One write, flush or discard that the disk was given.
struct DiskOperation {
  enum class Kind { write, flush, discard };
  Kind kind = Kind::write;
  std::uint64_t number = 0;  ///< in order of beginning, from 0
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  WriteMode mode = WriteMode::cached;
  std::vector<std::byte> data;    ///< of a write
  std::optional<std::byte> fill;  ///< what an ended discard reads as; empty: it left the old contents
  std::vector<bool> landed;       ///< of a failed write, per sector; empty: all of it
  NexusId nexus{};                ///< through which it came; 0: none in particular
  bool aborted = false;           ///< by PREEMPT AND ABORT or LOGICAL UNIT RESET
};

/// One step of the disk's life: an operation began, ended, or was ended by a failure.
struct DiskEvent {
  enum class Kind { begin, end, failure };
  Kind kind;
  std::shared_ptr<const DiskOperation> operation;
};

/// A moment and a fate: after how many events the power goes, and what becomes of the writes that were not stable.
struct PowerCut {
  enum class Unstable {
    lost,    ///< none landed
    landed,  ///< all landed
    random,  ///< drawn from the seed: all but one, only one, the first few, any subset; torn at sector size or whole
  };
  std::uint64_t event = 0;
  Unstable unstable = Unstable::random;
  std::uint64_t seed = 0;
};

/// Told of what happens to a disk, at the moment when it happens; for traces and for checks of what may be written
/// when.
class DiskWatcher {
 public:
  virtual ~DiskWatcher() = default;
  virtual void disk_event(const DiskEvent& event) = 0;
  virtual void disk_read(std::uint64_t offset_bytes, std::uint64_t length_bytes, NexusId nexus) = 0;
  /// Registrations or the reservation may have changed by a command through the nexus.
  virtual void reservations_changed(NexusId nexus) = 0;
};

class SimulatedDisk {
 public:
  /// `geometry.size_bytes` follows from the contents; the rest is taken as given.
  explicit SimulatedDisk(DiskImage contents, DeviceGeometry geometry = default_geometry());
  /// 512-byte sectors, a volatile write cache, discard of 4 KiB.
  static DeviceGeometry default_geometry();

  const DeviceGeometry& geometry() const { return geometry_; }
  /// What a reader sees now.
  const DiskImage& contents() const { return contents_; }

  /// The log since the start or forget_history().
  const std::vector<DiskEvent>& events() const { return events_; }
  std::uint64_t event_count() const { return keeping_history_ ? events_.size() : events_since_; }
  /// Drops the log so far, for long runs; what is not stable yet stays so. Events are numbered from 0 again.
  void forget_history();
  /// Keeps no history from now on, for long runs without after(); events are counted on. What a cut now would leave is
  /// known all the same.
  void keep_no_history();
  /// Null: nobody. The watcher outlives the disk or is taken away first.
  void set_watcher(DiskWatcher* watcher) { watcher_ = watcher; }
  void tell_reservations_changed(NexusId nexus) {
    if (watcher_ != nullptr) watcher_->reservations_changed(nexus);
  }

  /// The contents that a power cut would leave. Cheapest when the events asked for go up.
  DiskImage after(const PowerCut& cut) const;
  /// The contents that a power cut would leave if it came now.
  DiskImage after_cut_now(PowerCut::Unstable unstable, std::uint64_t seed) const {
    return cut_at(now_, unstable, Random(seed));
  }
  /// Cuts the power now: contents become after(...), operations in flight never end, history is forgotten,
  /// registrations are lost unless they were to persist.
  void power_cut(PowerCut::Unstable unstable, std::uint64_t seed);
  /// The target restarts: it does not know any more what it was doing, initiators send that again; registrations are
  /// lost unless they were to persist. What nexuses that may not write have on their way gets lost: where an initiator
  /// sends even that again, nothing could keep it from a disk without a reservation.
  void restart_target(Random& random);
  /// How often what was on its way through the nexus got lost.
  std::uint64_t losses(NexusId nexus) const {
    const auto lost = losses_.find(nexus);
    return power_cuts_ + (lost == losses_.end() ? 0 : lost->second);
  }

  ReservationTable& reservations() { return reservations_; }
  /// Aborts what came through the nexus, or through any, and is not done: it may have landed in part, and lands no
  /// more.
  void abort(NexusId nexus, Random& random);
  void abort_all(Random& random);

  /// The device's side. Begin an operation that the reservations allow (the device asks), later end or fail it; one
  /// that is ended after a power cut or an abort ended nothing: false.
  using Operation = std::shared_ptr<DiskOperation>;
  Operation begin_write(std::uint64_t offset_bytes, std::vector<std::byte> data, WriteMode mode, NexusId nexus = {});
  Operation begin_flush(NexusId nexus = {});
  Operation begin_discard(std::uint64_t offset_bytes, std::uint64_t length_bytes, NexusId nexus = {});
  /// The random generator chooses what a discarded range reads as.
  bool end(const Operation& operation, Random& random);
  /// A failed write or discard may have landed in part; a failed flush made nothing stable.
  bool fail(const Operation& operation, Random& random);
  /// Sectors that a write in flight covers read as before or after it.
  void read(std::uint64_t offset_bytes, std::span<std::byte> into, Random& random, NexusId nexus = {}) const;

 private:
  using LoggedOperation = std::shared_ptr<const DiskOperation>;
  struct Cached {
    LoggedOperation operation;
    std::uint64_t order;  ///< of its end, among all steps
    bool stable;
  };
  /// The disk at one moment, moved forward event by event.
  struct Moment {
    explicit Moment(DiskImage image) : stable(std::move(image)) {}
    void apply(const DiskEvent& event, bool volatile_cache, std::uint32_t sector_bytes);

    DiskImage stable;
    std::vector<Cached> cached;  ///< ended, in order of ending; what is stable among them waits for its turn
    std::vector<LoggedOperation> in_flight;                          ///< in order of beginning
    std::vector<std::pair<LoggedOperation, std::uint64_t>> flushes;  ///< in flight, with the order of their beginning
    std::uint64_t steps = 0;
  };

  void log(DiskEvent::Kind kind, LoggedOperation operation);
  bool take_from_flight(const Operation& operation);
  DiskImage cut_at(const Moment& moment, PowerCut::Unstable unstable, Random random) const;

  DeviceGeometry geometry_;
  DiskImage contents_;
  std::vector<Operation> in_flight_;
  std::uint64_t next_number_ = 0;
  std::uint64_t power_cuts_ = 0;
  std::map<NexusId, std::uint64_t> losses_;  ///< at restarts of the target
  ReservationTable reservations_;
  std::vector<DiskEvent> events_;
  bool keeping_history_ = true;
  std::uint64_t events_since_ = 0;  ///< since history is no longer kept
  DiskWatcher* watcher_ = nullptr;
  Moment now_;
  Moment start_;
  /// Where the last after() stopped; only saves work.
  mutable Moment cursor_;
  mutable std::uint64_t cursor_event_ = 0;
};

}  // namespace corral
