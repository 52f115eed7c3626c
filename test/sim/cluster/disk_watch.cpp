#include "test/sim/cluster/disk_watch.h"

#include <algorithm>

#include <fmt/format.h>

namespace corral::sim {

DiskWatch::DiskWatch(SimulatedDisk& disk, Trace& trace) : disk_(disk), trace_(trace) {
  disk_.set_watcher(this);
}

void DiskWatch::set_journals(const std::vector<OfflineJournal>& journals, std::uint32_t block_shift) {
  for (const OfflineJournal& journal : journals) {
    for (const JournalMap::Extent& extent : journal.map.extents()) {
      const std::uint64_t begin = extent.start.value << block_shift;
      extents_[begin] = {begin + (std::uint64_t{extent.length} << block_shift), journal.id};
    }
  }
}

void DiskWatch::add_nexus(NexusId nexus, LifeId life, std::string node) {
  nexuses_[nexus] = {.life = life, .node = std::move(node)};
}

NexusId DiskWatch::nexus_of(LifeId life) const {
  const auto found = std::ranges::find_if(nexuses_, [life](const auto& entry) { return entry.second.life == life; });
  CHECK_INVARIANT(found != nexuses_.end());
  return found->first;
}

void DiskWatch::mounted(LifeId life, JournalId journal) {
  const NexusId nexus = nexus_of(life);
  owners_[journal] = nexus;
  nexuses_[nexus].may_write = disk_.reservations().may_write(nexus);
}

void DiskWatch::left(LifeId life) {
  const NexusId nexus = nexus_of(life);
  nexuses_[nexus].may_write = false;
  std::erase_if(owners_, [nexus](const auto& entry) { return entry.second == nexus; });
}

void DiskWatch::power_lost() {
  owners_.clear();
  for (auto& [id, nexus] : nexuses_)
    nexus.may_write = false;
}

std::string_view DiskWatch::node_of(NexusId nexus) const {
  const auto found = nexuses_.find(nexus);
  return found == nexuses_.end() ? std::string_view("-") : found->second.node;
}

void DiskWatch::disk_event(const DiskEvent& event) {
  const DiskOperation& operation = *event.operation;
  static constexpr std::string_view kKinds[] = {"write", "flush", "discard"};
  static constexpr std::string_view kSteps[] = {"begins", "ends", "fails"};
  const auto number = operation.number;
  const std::string_view kind = kKinds[static_cast<std::size_t>(operation.kind)];
  const std::string_view step = kSteps[static_cast<std::size_t>(event.kind)];
  if (event.kind == DiskEvent::Kind::begin && operation.kind != DiskOperation::Kind::flush) {
    const std::string_view bytes(reinterpret_cast<const char*>(operation.data.data()), operation.data.size());
    trace_.line(node_of(operation.nexus), "disk", "{} {} begins: {} bytes at {}{}, contents {:016x}", kind, number,
                operation.length_bytes, operation.offset_bytes,
                operation.mode == WriteMode::write_through ? " through" : "", digest(bytes));
  } else {
    trace_.line(node_of(operation.nexus), "disk", "{} {} {}", kind, number, step);
  }
  if (operation.kind == DiskOperation::Kind::flush || event.kind == DiskEvent::Kind::begin) return;
  ++writes_;
  const auto nexus = nexuses_.find(operation.nexus);
  if (nexus != nexuses_.end() && nexus->second.replayed) {
    violation(fmt::format("a {} of {} bytes at {} by node {} (life {}) lands after replay of its journal has begun",
                          kind, operation.length_bytes, operation.offset_bytes, nexus->second.node,
                          nexus->second.life));
  }
}

void DiskWatch::disk_read(std::uint64_t offset_bytes, std::uint64_t length_bytes, NexusId nexus) {
  auto extent = extents_.upper_bound(offset_bytes);
  if (extent == extents_.begin()) return;
  --extent;
  if (offset_bytes >= extent->second.end || length_bytes == 0) return;
  const JournalId journal = extent->second.journal;
  const auto owner = owners_.find(journal);
  if (owner == owners_.end() || owner->second == nexus) return;
  Nexus& victim = nexuses_[owner->second];
  if (victim.replayed) return;
  victim.replayed = true;
  trace_.line(node_of(nexus), "disk", "reads journal {} of node {}, life {}", journal.value, victim.node, victim.life);
  if (!disk_.reservations().may_write(owner->second)) return;
  violation(fmt::format("node {} reads journal {} of node {} (life {}), which can still write", node_of(nexus),
                        journal.value, victim.node, victim.life));
}

void DiskWatch::reservations_changed(NexusId by) {
  for (auto& [id, nexus] : nexuses_) {
    const bool could = nexus.may_write;
    if (!could || disk_.reservations().may_write(id)) continue;
    nexus.may_write = false;
    trace_.line(node_of(by), "fence", "node {}, life {}, can write no more", nexus.node, nexus.life);
    on_fenced(nexus.life);
  }
}

}  // namespace corral::sim
