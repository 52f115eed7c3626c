// The node's own mode of a glock: asking the lock space for more, and giving up what other nodes want.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/planted_bug.h"
#include "fs/glock.h"

namespace corral {

namespace {
/// Locks that the node keeps although nothing is cached under them.
constexpr std::size_t kMostIdle = 65536;

/// The strongest mode that `wanted` on another node leaves to one that has `has`.
GlockMode mode_beside(GlockMode has, GlockMode wanted) {
  if (compatible(has, wanted)) return has;
  return wanted == GlockMode::shared && has == GlockMode::exclusive ? GlockMode::shared : GlockMode::unlocked;
}
}  // namespace

void Glock::other_wants(GlockMode wanted) {
  // While a change is under way the call may be about what it brings.
  if (!changing_ && compatible(node_mode_, wanted)) return;
  const GlockMode to = changing_ ? mode_beside(GlockMode::exclusive, wanted) : mode_beside(node_mode_, wanted);
  if (!demote_to_) demote_not_before_ = held_by_anyone() || contended() ? hold_until_ : now();
  if (!demote_to_ || covers(*demote_to_, to)) demote_to_ = to;
  advance();
}

bool Glock::held_beyond(GlockMode mode) const {
  const bool shared_may_stay = name_.type == GlockType::iopen && mode == GlockMode::shared;
  return shared_may_stay ? exclusive_ + deferred_ != 0 : held_by_anyone();
}

/// How far this node can come down now for those who want the glock. Who has an iopen glock shared keeps it for as long
/// as the inode is in memory, whoever wants it exclusively; others who want it shared must not wait for that.
std::optional<GlockMode> Glock::next_demotion() const {
  if (!held_beyond(*demote_to_)) return demote_to_;
  if (name_.type == GlockType::iopen && node_mode_ == GlockMode::exclusive && !held_beyond(GlockMode::shared))
    return GlockMode::shared;
  return std::nullopt;
}

bool Glock::must_change() const {
  if (changing_ || table_.refusing_) return false;
  if (demote_to_) return !table_.settled_ && next_demotion().has_value();
  if (queue_.empty()) return false;
  const GlockMode wanted = static_cast<const Request&>(*queue_.first()).mode;
  return !covers(node_mode_, wanted) && compatible_with_holders(wanted);
}

void Glock::advance() {
  grant_in_order();
  if (running_ || table_.changes_ == nullptr || !must_change()) return;
  running_ = true;
  table_.changes_->spawn(run_changes());
}

Task<void> Glock::run_changes() {
  GlockRef self(this);
  co_await table_.executor_.yield();  // whoever started this is in the middle of something
  while (must_change()) {
    co_await change_once();
    grant_in_order();
  }
  running_ = false;
  change_ended_.notify_all();
}

Task<void> Glock::change_once() {
  if (!demote_to_) {
    co_return co_await promote(static_cast<const Request&>(*queue_.first()).mode);
  }
  // The hold time is for those whom the present mode is of use to.
  const bool stuck = contended() && !covers(node_mode_, static_cast<const Request&>(*queue_.first()).mode);
  if (!stuck && now() < demote_not_before_) co_return co_await table_.executor_.sleep_until(demote_not_before_);
  // The wait may have changed what is held.
  if (const std::optional<GlockMode> to = next_demotion()) co_await come_down(*to);
}

/// Has the upper layer forget, then comes down; or does nothing, to be tried again, if requests were let in meanwhile:
/// what they were answered may be remembered.
Task<void> Glock::come_down(GlockMode to) {
  if (table_.on_invalidate && name_.type == GlockType::inode && !covers(to, node_mode_)) {
    const std::uint32_t grants_before = grants_;
    ++table_.invalidations_;
    invalidating_ = true;
    co_await table_.on_invalidate(*this, to);
    invalidating_ = serving_ = false;
    if (grants_ != grants_before || held_by_anyone()) co_return;
  }
  co_await demote(to);
}

/// For more than the node has.
Task<LockAnswer> Glock::ask_for(GlockMode mode, LockHow how) {
  changing_ = true;
  // Nothing should be there. It would be of a time when others had the lock.
  if (node_mode_ == GlockMode::unlocked && !blocks_.empty()) co_await table_.cache_->release(blocks_);
  LockAnswer answer = co_await table_.lock_space_.change(name_, node_mode_, mode, how, {});
  changing_ = false;
  co_return answer;
}

Task<void> Glock::promote(GlockMode mode) {
  // Nothing but exclusive can be had on top of another mode.
  if (node_mode_ != GlockMode::unlocked && mode != GlockMode::exclusive) {
    co_return co_await come_down(GlockMode::unlocked);
  }
  ++table_.counters_.promotes;
  asked_for_ = mode;
  const LockAnswer answer = co_await ask_for(mode, LockHow::wait);
  asked_for_.reset();
  switch (answer.outcome) {
    case LockOutcome::granted:
      note_granted(mode, answer.value);
      co_return;
    case LockOutcome::denied:
      co_return co_await come_down(GlockMode::unlocked);
    case LockOutcome::withdrawn:
      table_.keeper_->glock_failed(Error(EIO, describe() + ": the lock space is lost", ErrorKind::device));
  }
}

void Glock::note_granted(GlockMode mode, const LockValue& value) {
  node_mode_ = mode;
  value_ = value;
  hold_until_ = now() + hold_;
  if (demote_to_) demote_not_before_ = hold_until_;
}

/// Comes down, whether others want it or not.
Task<void> Glock::demote(GlockMode to) {
  CHECK_INVARIANT(!held_beyond(to));
  if (covers(to, node_mode_)) co_return note_demoted(node_mode_);
  changing_ = true;
  const bool all_is_under_it = name_ == kFreezeGlock;
  const bool must_write = all_is_under_it ? to == GlockMode::unlocked : node_mode_ == GlockMode::exclusive;
  if (must_write && !planted(PlantedBug::demote_without_write)) {
    Result<> written = co_await table_.keeper_->write(*this);
    if (!written && !table_.refusing_) table_.keeper_->glock_failed(written.error().within(describe()));
  }
  if (to == GlockMode::unlocked && !table_.refusing_ && !planted(PlantedBug::demote_keeps_cache)) {
    co_await table_.keeper_->forget(name_);
    co_await table_.cache_->release(blocks_);
  }
  if (table_.refusing_) {
    changing_ = false;  // what could not be written must not be seen by others: the lock stays
    co_return;
  }
  ++table_.counters_.demotes;
  const LockAnswer answer = co_await table_.lock_space_.change(name_, node_mode_, to, LockHow::wait, value_);
  changing_ = false;
  if (answer.outcome == LockOutcome::withdrawn) {
    table_.keeper_->glock_failed(Error(EIO, describe() + ": the lock space is lost", ErrorKind::device));
    co_return;
  }
  note_demoted(to);
}

void Glock::note_demoted(GlockMode mode) {
  node_mode_ = mode;
  hold_ = contended() ? std::min(hold_ * 2, kLongestHold) : std::max(hold_ / 2, kLeastHold);
  if (demote_to_ && covers(*demote_to_, mode)) demote_to_.reset();
}

void GlockTable::blocked(GlockName name, GlockMode wanted) {
  if (refusing_ || settled_) return;
  ++counters_.callbacks;
  if (planted(PlantedBug::dropped_callback) && name.number % 3 == 0) return;
  auto found = glocks_.find(name);
  if (found != glocks_.end()) {
    GlockRef glock(found->second.get());
    glock->other_wants(wanted);
  }
  if (wanted != GlockMode::exclusive) return;
  if (name == kThawGlock) keeper_->thaw_wanted();
  if (name.type != GlockType::iopen) return;
  if (on_free_wanted) on_free_wanted(BlockNo(name.number));
  keeper_->iopen_wanted(BlockNo(name.number));
}

void GlockTable::note_idle(Glock& glock) {
  if (refusing_ || settled_ || glock.is_linked()) return;
  idle_.push_back(glock);
  if (idle_.size() <= kMostIdle) return;
  GlockRef oldest(&idle_.front());
  oldest->other_wants(GlockMode::exclusive);
}

Task<void> GlockTable::give_back(GlockType type) {
  std::vector<GlockRef> unused;
  for (const auto& [name, glock] : glocks_) {
    if (name.type == type && !glock->held_by_anyone() && !glock->contended()) unused.emplace_back(glock.get());
  }
  std::ranges::sort(unused, {}, [](const GlockRef& glock) { return glock->name(); });
  for (const GlockRef& glock : unused)
    glock->other_wants(GlockMode::exclusive);
  for (const GlockRef& glock : unused) {
    while (glock->running_)
      co_await glock->change_ended_.wait();
  }
}

Task<void> GlockTable::settle() {
  settled_ = true;
  co_await changes_->join();
}

Task<void> GlockTable::leave() {
  lock_space_.set_client(nullptr);
  CHECK_INVARIANT(changes_ == nullptr || changes_->running() == 0);
  co_await lock_space_.leave();
  idle_.clear();
  std::erase_if(glocks_, [](const auto& item) { return item.second->is_idle(); });
  for (const auto& [name, glock] : glocks_)
    glock->node_mode_ = standing_mode_;
}

std::vector<std::string> GlockTable::waiting() const {
  static constexpr const char* kModes[] = {"UN", "SH", "DF", "EX"};
  std::vector<std::string> lines;
  for (const auto& [name, glock] : glocks_) {
    if (glock->queue_.empty() && !glock->changing_ && !glock->demote_to_) continue;
    lines.push_back(fmt::format(
        "{}: type {} number {}, node has {}, {} shared {} deferred {} exclusive holders, {}{}{}", glock->describe(),
        static_cast<int>(name.type), name.number, kModes[static_cast<int>(glock->node_mode_)], glock->shared_,
        glock->deferred_, glock->exclusive_, glock->queue_.empty() ? "" : "waited for, ",
        glock->changing_ ? "changing, " : "",
        glock->demote_to_ ? fmt::format("others leave {}", kModes[static_cast<int>(*glock->demote_to_)]) : ""));
  }
  std::ranges::sort(lines);
  return lines;
}

}  // namespace corral
