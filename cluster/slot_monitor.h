/// What a node concludes from the others' heartbeats on the disk. Pure; only the reader's own clock is used.
///
/// A slot that reads the same twice was not written between the end of the first reading and the begin of the second.
/// That is all that counts as silence, so neither a slow disk nor a pause of the reader makes others look dead.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "cluster/area.h"
#include "cluster/timing.h"

namespace corral::cluster {

enum class Life {
  unknown,  ///< not seen to change yet, nor silent for the failure timeout
  alive,    ///< seen to change lately
  late,     ///< silent, but not for the failure timeout
  dead,     ///< silent for the failure timeout
};

class SlotMonitor {
 public:
  explicit SlotMonitor(const Timing& timing) : timing_(timing) {}

  /// One reading of all slots: when it began and ended.
  void scanned(Time began, Time ended, const std::vector<FoundSlot>& slots);

  /// The slot as last read; null where it could never be read.
  const Slot* slot(NodeId node) const;
  /// Those that are not free, as last read, in order of their numbers; valid until the next reading.
  std::vector<const Slot*> occupied() const;
  Life life(NodeId node) const;
  /// How long the slot has been silent for certain.
  Duration silence(NodeId node) const;
  /// True if the slot carries this life and is not free.
  bool holds(Member member) const;
  /// Begin of the last reading.
  Time last_scan() const { return last_scan_; }

 private:
  struct Observed {
    std::optional<Slot> slot;
    Time first_seen{};  ///< end of the reading that first gave it so
    Duration silence{};
    std::uint32_t repeats = 0;  ///< readings since that gave the same
    bool changed = false;       ///< seen to change within one life
  };
  const Observed* find(NodeId node) const;

  Timing timing_;
  std::vector<Observed> observed_;
  Time last_scan_{};
};

}  // namespace corral::cluster
