#include "disk/simulated_disk.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace corral {

namespace {
/// Which sectors of an operation reach the medium; empty means all of them.
using SectorMask = std::vector<bool>;

std::uint64_t sector_count(const DiskOperation& operation, std::uint32_t sector_bytes) {
  return operation.length_bytes / sector_bytes;
}

void land_part(DiskImage& image, const DiskOperation& operation, std::uint64_t from_bytes, std::uint64_t length_bytes) {
  if (operation.kind == DiskOperation::Kind::write) {
    image.write(operation.offset_bytes + from_bytes, std::span(operation.data).subspan(from_bytes, length_bytes));
  } else if (operation.fill) {
    image.fill(operation.offset_bytes + from_bytes, length_bytes, *operation.fill);
  }
}

void land(DiskImage& image, const DiskOperation& operation, const SectorMask& mask, std::uint32_t sector_bytes) {
  if (mask.empty()) return land_part(image, operation, 0, operation.length_bytes);
  for (std::size_t sector = 0; sector < mask.size(); ++sector) {
    if (mask[sector]) land_part(image, operation, sector * sector_bytes, sector_bytes);
  }
}

/// A mask that tears an operation: its first sectors, its last, or some.
SectorMask draw_torn(std::uint64_t sectors, Random& random) {
  SectorMask mask(sectors, false);
  std::uint64_t split = random.below(sectors + 1);
  switch (random.below(3)) {
    case 0:
      std::fill(mask.begin(), mask.begin() + static_cast<std::ptrdiff_t>(split), true);
      break;
    case 1:
      std::fill(mask.begin() + static_cast<std::ptrdiff_t>(split), mask.end(), true);
      break;
    default:
      for (std::size_t sector = 0; sector < sectors; ++sector)
        mask[sector] = random.chance(1, 2);
  }
  return mask;
}

/// What a discarded range reads as: as before, zero, or something else.
std::optional<std::byte> draw_fill(std::uint64_t length_bytes, Random& random) {
  constexpr std::uint64_t kLongestPattern = 1 << 20;  // a pattern takes memory, zeros do not
  std::uint64_t draw = random.below(8);
  if (draw < 3) return std::nullopt;
  if (draw == 3 && length_bytes <= kLongestPattern) return std::byte{0xDB};
  return std::byte{0};
}

/// Which of `count` unstable operations, in order of landing, survive a cut whole.
std::vector<bool> draw_survivors(std::size_t count, Random& random) {
  std::vector<bool> survives(count, false);
  std::size_t pick = random.below(count);
  switch (random.below(5)) {
    case 0:  // all but one
      survives.assign(count, true);
      survives[pick] = false;
      break;
    case 1:  // only one
      survives[pick] = true;
      break;
    case 2:  // the first few
      std::fill(survives.begin(), survives.begin() + static_cast<std::ptrdiff_t>(pick), true);
      break;
    default:  // any subset, from nearly none to nearly all
      std::uint64_t eighths = random.between(1, 7);
      for (std::size_t i = 0; i < count; ++i)
        survives[i] = random.chance(eighths, 8);
  }
  return survives;
}

void shuffle(std::vector<std::shared_ptr<const DiskOperation>>& operations, Random& random) {
  for (std::size_t left = operations.size(); left > 1; --left)
    std::swap(operations[left - 1], operations[random.below(left)]);
}
}  // namespace

void SimulatedDisk::Moment::apply(const DiskEvent& event, bool volatile_cache, std::uint32_t sector_bytes) {
  std::uint64_t step = steps++;
  const LoggedOperation& operation = event.operation;
  bool is_flush = operation->kind == DiskOperation::Kind::flush;
  if (event.kind == DiskEvent::Kind::begin) {
    if (is_flush) {
      flushes.emplace_back(operation, step);
    } else {
      in_flight.push_back(operation);
    }
    return;
  }
  bool succeeded = event.kind == DiskEvent::Kind::end;
  if (is_flush) {
    auto flush = std::ranges::find(flushes, operation, &std::pair<LoggedOperation, std::uint64_t>::first);
    if (succeeded) {
      for (Cached& entry : cached)
        entry.stable |= entry.order < flush->second;
    }
    flushes.erase(flush);
  } else {
    std::erase(in_flight, operation);
    bool through = operation->mode == WriteMode::write_through || !volatile_cache;
    cached.push_back({operation, step, succeeded && through});
  }
  // What is stable lands for good once nothing older can land under it any more.
  auto first_unstable = std::ranges::find(cached, false, &Cached::stable);
  for (auto entry = cached.begin(); entry != first_unstable; ++entry)
    land(stable, *entry->operation, entry->operation->landed, sector_bytes);
  cached.erase(cached.begin(), first_unstable);
}

SimulatedDisk::SimulatedDisk(DiskImage contents, DeviceGeometry geometry)
    : geometry_(geometry), contents_(std::move(contents)), now_(contents_), start_(contents_), cursor_(contents_) {
  geometry_.size_bytes = contents_.size_bytes();
  CHECK_INVARIANT(geometry_.size_bytes % geometry_.sector_bytes == 0);
}

DeviceGeometry SimulatedDisk::default_geometry() {
  return {.sector_bytes = 512,
          .physical_sector_bytes = 512,
          .discard_granularity_bytes = 4096,
          .volatile_write_cache = true};
}

void SimulatedDisk::log(DiskEvent::Kind kind, LoggedOperation operation) {
  const DiskEvent event{kind, std::move(operation)};
  now_.apply(event, geometry_.volatile_write_cache, geometry_.sector_bytes);
  if (keeping_history_) events_.push_back(event);
  if (!keeping_history_) ++events_since_;
  if (watcher_ != nullptr) watcher_->disk_event(event);
}

void SimulatedDisk::forget_history() {
  if (!keeping_history_) return;
  events_.clear();
  start_ = now_;
  cursor_ = now_;
  cursor_event_ = 0;
}

void SimulatedDisk::keep_no_history() {
  keeping_history_ = false;
  events_since_ = events_.size();
  events_.clear();
  // Nobody asks what was: nothing is to be kept beside the present.
  start_ = Moment(DiskImage(0));
  cursor_ = start_;
  cursor_event_ = 0;
}

SimulatedDisk::Operation SimulatedDisk::begin_write(std::uint64_t offset_bytes, std::vector<std::byte> data,
                                                    WriteMode mode, NexusId nexus) {
  std::uint64_t length_bytes = data.size();
  auto operation = std::make_shared<DiskOperation>(DiskOperation{.kind = DiskOperation::Kind::write,
                                                                 .number = next_number_++,
                                                                 .offset_bytes = offset_bytes,
                                                                 .length_bytes = length_bytes,
                                                                 .mode = mode,
                                                                 .data = std::move(data),
                                                                 .fill = {},
                                                                 .landed = {},
                                                                 .nexus = nexus});
  in_flight_.push_back(operation);
  log(DiskEvent::Kind::begin, operation);
  return operation;
}

SimulatedDisk::Operation SimulatedDisk::begin_flush(NexusId nexus) {
  auto operation = std::make_shared<DiskOperation>();
  operation->nexus = nexus;
  operation->kind = DiskOperation::Kind::flush;
  operation->number = next_number_++;
  in_flight_.push_back(operation);
  log(DiskEvent::Kind::begin, operation);
  return operation;
}

SimulatedDisk::Operation SimulatedDisk::begin_discard(std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                                      NexusId nexus) {
  auto operation = std::make_shared<DiskOperation>();
  operation->nexus = nexus;
  operation->kind = DiskOperation::Kind::discard;
  operation->number = next_number_++;
  operation->offset_bytes = offset_bytes;
  operation->length_bytes = length_bytes;
  in_flight_.push_back(operation);
  log(DiskEvent::Kind::begin, operation);
  return operation;
}

bool SimulatedDisk::take_from_flight(const Operation& operation) {
  return std::erase(in_flight_, operation) == 1;
}

bool SimulatedDisk::end(const Operation& operation, Random& random) {
  if (!take_from_flight(operation)) return false;
  if (operation->kind == DiskOperation::Kind::discard) operation->fill = draw_fill(operation->length_bytes, random);
  land(contents_, *operation, {}, geometry_.sector_bytes);
  log(DiskEvent::Kind::end, operation);
  return true;
}

bool SimulatedDisk::fail(const Operation& operation, Random& random) {
  if (!take_from_flight(operation)) return false;
  if (operation->kind != DiskOperation::Kind::flush) {
    if (operation->kind == DiskOperation::Kind::discard) operation->fill = draw_fill(operation->length_bytes, random);
    operation->landed = draw_torn(sector_count(*operation, geometry_.sector_bytes), random);
    land(contents_, *operation, operation->landed, geometry_.sector_bytes);
  }
  log(DiskEvent::Kind::failure, operation);
  return true;
}

void SimulatedDisk::abort(NexusId nexus, Random& random) {
  for (const Operation& operation : std::vector<Operation>(in_flight_)) {
    if (operation->nexus != nexus) continue;
    operation->aborted = true;
    fail(operation, random);
  }
}

void SimulatedDisk::restart_target(Random& random) {
  for (std::uint32_t nexus = 1; nexus <= reservations_.last_nexus().value; ++nexus) {
    if (!reservations_.may_write(NexusId(nexus))) ++losses_[NexusId(nexus)];
  }
  reservations_.power_on();
  abort_all(random);
  tell_reservations_changed(NexusId());
}

void SimulatedDisk::abort_all(Random& random) {
  for (const Operation& operation : std::vector<Operation>(in_flight_)) {
    operation->aborted = true;
    fail(operation, random);
  }
}

void SimulatedDisk::read(std::uint64_t offset_bytes, std::span<std::byte> into, Random& random, NexusId nexus) const {
  if (watcher_ != nullptr) watcher_->disk_read(offset_bytes, into.size(), nexus);
  contents_.read(offset_bytes, into);
  const std::uint64_t end = offset_bytes + into.size();
  for (const Operation& operation : in_flight_) {
    if (operation->kind != DiskOperation::Kind::write) continue;
    std::uint64_t from = std::max(offset_bytes, operation->offset_bytes);
    std::uint64_t to = std::min(end, operation->offset_bytes + operation->length_bytes);
    for (std::uint64_t at = from; at < to; at += geometry_.sector_bytes) {
      if (random.chance(1, 2)) continue;
      auto sector = std::span(operation->data).subspan(at - operation->offset_bytes, geometry_.sector_bytes);
      std::ranges::copy(sector, into.begin() + static_cast<std::ptrdiff_t>(at - offset_bytes));
    }
  }
}

DiskImage SimulatedDisk::after(const PowerCut& cut) const {
  CHECK_INVARIANT(cut.event <= events_.size());
  if (cut.event < cursor_event_) {
    cursor_ = start_;
    cursor_event_ = 0;
  }
  while (cursor_event_ < cut.event)
    cursor_.apply(events_[cursor_event_++], geometry_.volatile_write_cache, geometry_.sector_bytes);
  return cut_at(cursor_, cut.unstable, Random(cut.seed));
}

void SimulatedDisk::power_cut(PowerCut::Unstable unstable, std::uint64_t seed) {
  contents_ = cut_at(now_, unstable, Random(seed));
  in_flight_.clear();
  ++power_cuts_;
  reservations_.power_on();
  now_ = Moment(contents_);
  forget_history();
}

DiskImage SimulatedDisk::cut_at(const Moment& moment, PowerCut::Unstable unstable, Random random) const {
  DiskImage image = moment.stable;
  std::vector<LoggedOperation> in_flight = moment.in_flight;
  if (unstable == PowerCut::Unstable::random) shuffle(in_flight, random);

  const auto cached_unstable = static_cast<std::size_t>(std::ranges::count(moment.cached, false, &Cached::stable));
  const std::size_t count = cached_unstable + in_flight.size();
  std::vector<bool> survives(count, unstable == PowerCut::Unstable::landed);
  bool tearing = false;
  if (unstable == PowerCut::Unstable::random && count > 0) {
    survives = draw_survivors(count, random);
    tearing = random.chance(1, 2);
  }

  std::size_t next = 0;
  auto meet_fate = [&](const DiskOperation& operation, const SectorMask& landed) {
    if (survives[next++]) return land(image, operation, landed, geometry_.sector_bytes);
    if (!tearing || random.chance(1, 2)) return;
    SectorMask torn = draw_torn(sector_count(operation, geometry_.sector_bytes), random);
    for (std::size_t sector = 0; sector < landed.size(); ++sector)
      torn[sector] = torn[sector] && landed[sector];
    land(image, operation, torn, geometry_.sector_bytes);
  };
  for (const Cached& entry : moment.cached) {
    if (entry.stable) {
      land(image, *entry.operation, entry.operation->landed, geometry_.sector_bytes);
    } else {
      meet_fate(*entry.operation, entry.operation->landed);
    }
  }
  for (const LoggedOperation& operation : in_flight) {
    if (operation->kind != DiskOperation::Kind::discard) {
      meet_fate(*operation, {});
      continue;
    }
    // Nobody has seen yet what this range will read as.
    DiskOperation discard = *operation;
    discard.fill = unstable == PowerCut::Unstable::random ? draw_fill(discard.length_bytes, random) : std::byte{0};
    meet_fate(discard, {});
  }
  return image;
}

}  // namespace corral
