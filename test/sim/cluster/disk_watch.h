/// Watches the shared disk: who writes what when. Tells the trace, and checks what fencing promises: a journal is read
/// for replay only when its owner can write no more, and nothing of the owner's lands from then on.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "disk/simulated_disk.h"
#include "offline/journals.h"
#include "test/sim/cluster/history.h"
#include "test/sim/cluster/trace.h"

namespace corral::sim {

class DiskWatch final : public DiskWatcher {
 public:
  /// Both outlive it.
  DiskWatch(SimulatedDisk& disk, Trace& trace);
  ~DiskWatch() override { disk_.set_watcher(nullptr); }

  std::function<void(const std::string& what)> violation;
  /// The life's key has gone from the disk.
  std::function<void(LifeId life)> on_fenced;

  /// Where the journals lie, in bytes.
  void set_journals(const std::vector<OfflineJournal>& journals, std::uint32_t block_shift);
  void add_nexus(NexusId nexus, LifeId life, std::string node);
  /// The life is a member now and may write.
  void mounted(LifeId life, JournalId journal);
  /// It has left in order: its journal is clean.
  void left(LifeId life);
  /// Disk and nodes lost power: nothing is on its way, no node lives.
  void power_lost();

  std::uint64_t writes() const { return writes_; }

 private:
  struct Nexus {
    LifeId life = 0;
    std::string node;
    bool may_write = false;  ///< it could, once it was mounted
    bool replayed = false;   ///< somebody reads its journal
  };
  struct Extent {
    std::uint64_t end;
    JournalId journal;
  };

  void disk_event(const DiskEvent& event) override;
  void disk_read(std::uint64_t offset_bytes, std::uint64_t length_bytes, NexusId nexus) override;
  void reservations_changed(NexusId nexus) override;
  std::string_view node_of(NexusId nexus) const;
  NexusId nexus_of(LifeId life) const;

  SimulatedDisk& disk_;
  Trace& trace_;
  std::map<NexusId, Nexus> nexuses_;
  std::map<std::uint64_t, Extent> extents_;  ///< by their first byte
  std::map<JournalId, NexusId> owners_;      ///< who wrote each journal last
  std::uint64_t writes_ = 0;
};

}  // namespace corral::sim
