#include "fs/freezer.h"

#include <cstring>
#include <utility>

#include "ondisk/layout.h"

namespace corral {

namespace {

/// The value of the record glock; zeros while nobody has frozen the volume.
struct Record {
  ondisk::be32 journal_plus_one;
  ondisk::be32 nanoseconds;
  ondisk::be64 seconds;
  std::byte reserved[16];
};
static_assert(sizeof(Record) == std::tuple_size_v<LockValue>);

LockValue value_of(JournalId by, WallTime since) {
  Record record{};
  record.journal_plus_one = by.value + 1;
  record.seconds = static_cast<std::uint64_t>(since.seconds);
  record.nanoseconds = since.nanoseconds;
  LockValue value;
  std::memcpy(value.data(), &record, sizeof(record));
  return value;
}

std::optional<Freezer::Frozen> parse(const LockValue& value) {
  Record record;
  std::memcpy(&record, value.data(), sizeof(record));
  if (record.journal_plus_one == 0) return std::nullopt;
  return Freezer::Frozen{.by = JournalId(record.journal_plus_one - 1),
                         .since = {static_cast<std::int64_t>(record.seconds.value()), record.nanoseconds}};
}

GlockRef glock_of(Volume& volume, GlockName name) {
  return volume.glocks.get(name.type, name.number);
}

}  // namespace

Freezer::Freezer(Volume& volume, JournalId self, std::function<Task<Result<>>()> come_to_rest)
    : volume_(volume),
      self_(self),
      come_to_rest_(std::move(come_to_rest)),
      changes_(glock_of(volume, kFreezeGlock)),
      requests_(glock_of(volume, kThawGlock)),
      record_(glock_of(volume, kFreezeRecordGlock)),
      turn_(volume.executor),
      changed_(volume.executor),
      follower_(std::make_unique<Scope>(volume.executor)),
      thawing_(std::make_unique<Scope>(volume.executor)) {}

std::string Freezer::describe(const Frozen& frozen) const {
  if (!frozen.by) return "by another node";
  return *frozen.by == self_ ? "by this node" : fmt::format("by the node with journal {}", frozen.by->value);
}

/// Nobody is in the middle of freezing or thawing when this returns. What stands in the record when its writer has died
/// is not true any more.
Task<Result<std::optional<Freezer::Frozen>>> Freezer::frozen_by_record() {
  const auto recorded = parse(record_->value());
  if (!recorded) co_return std::nullopt;
  CO_TRY(const auto changing, co_await changes_->attempt(kChangeMode));
  co_return changing ? std::nullopt : recorded;
}

Task<Result<GlockHolder>> Freezer::enter() {
  CO_TRY_VOID(volume_.check_writable());
  CO_TRY(auto at_once, co_await changes_->attempt(kChangeMode));
  if (at_once) co_return *std::move(at_once);
  {
    CO_TRY(const GlockHolder reading, co_await record_->acquire(GlockMode::shared));
    CO_TRY(const auto frozen, co_await frozen_by_record());
    if (frozen)
      volume_.log.warning("{}: the volume is frozen, {}; mounting waits until it is thawed (corral thaw on any node)",
                          volume_.device.name(), describe(*frozen));
  }
  co_return co_await volume_.change();
}

/// EBUSY where it is frozen already. Nobody else freezes while the record is held exclusively.
Task<Result<GlockHolder>> Freezer::record_unless_frozen(GlockMode mode) {
  CO_TRY(GlockHolder record, co_await record_->acquire(mode));
  CO_TRY(const auto frozen, co_await frozen_by_record());
  if (!frozen) co_return record;
  co_return fail(EBUSY, "{}: the volume is frozen already, {}; thaw it first (corral thaw)", volume_.device.name(),
                 describe(*frozen));
}

Task<void> Freezer::take(std::optional<Result<GlockHolder>>& into, GlockMode mode) {
  into = co_await changes_->acquire(mode);
  changed_.notify_all();
}

Task<Result<GlockHolder>> Freezer::take_exclusively(Duration patience, std::stop_token stop) {
  const Time give_up = volume_.executor.now() + patience;
  std::optional<Result<GlockHolder>> taken;
  const std::stop_callback wake(stop, [this] { changed_.notify_all(); });
  Scope asking(volume_.executor);  // asks no more when it goes
  asking.spawn(take(taken, GlockMode::exclusive));
  while (!taken && !stop.stop_requested() && volume_.executor.now() < give_up)
    static_cast<void>(co_await changed_.wait_until(give_up));
  if (taken) co_return *std::move(taken);
  if (stop.stop_requested()) co_return fail(ECANCELED, "{}: freezing was stopped", volume_.device.name());
  co_return fail(ETIMEDOUT,
                 "{}: not all nodes came to rest within {} s: long work goes on somewhere (corral top, corral locks), "
                 "or a node does not answer (corral status); nothing is frozen",
                 volume_.device.name(), std::chrono::duration_cast<std::chrono::seconds>(patience).count());
}

Task<Result<>> Freezer::freeze(Duration patience, std::stop_token stop) {
  CO_TRY_VOID(volume_.check_writable());
  const Mutex::Guard turn = co_await turn_.lock();
  if (held_)
    co_return fail(EBUSY, "{}: the volume is frozen already, {}; thaw it first (corral thaw)", volume_.device.name(),
                   describe(*frozen_));
  {
    // So that who asks in vain leaves the record to who wrote it.
    CO_TRY(const GlockHolder reading, co_await record_unless_frozen(GlockMode::shared));
  }
  CO_TRY(const GlockHolder record, co_await record_unless_frozen(GlockMode::exclusive));
  CO_TRY(GlockHolder requests, co_await requests_->acquire(GlockMode::shared));
  auto changes = co_await take_exclusively(patience, std::move(stop));
  if (!changes) co_return std::unexpected(changes.error());
  CO_TRY_VOID(co_await come_to_rest_());
  frozen_ = Frozen{.by = self_, .since = volume_.clock.wall()};
  record_->set_value(value_of(self_, frozen_->since));
  held_ = Held{*std::move(changes), std::move(requests)};
  volume_.log.info("the volume is frozen: nothing is changed on any node until it is thawed");
  co_return Result<>{};
}

Task<Result<>> Freezer::thaw_here() {
  const Mutex::Guard turn = co_await turn_.lock();
  if (!held_) co_return Result<>{};
  auto record = co_await record_->acquire(GlockMode::exclusive);
  if (record) record_->set_value({});
  held_.reset();
  frozen_.reset();
  volume_.log.info("the volume is thawed");
  if (!record) co_return std::unexpected(record.error());
  co_return Result<>{};
}

Task<void> Freezer::thaw_here_and_tell() {
  if (const Result<> thawed = co_await thaw_here(); !thawed && !volume_.withdrawn)
    volume_.log.error("thawing: {}", thawed.error().describe());
}

void Freezer::thaw_wanted() {
  if (held_ && thawing_) thawing_->spawn(thaw_here_and_tell());
}

Task<Result<>> Freezer::thaw() {
  CO_TRY_VOID(volume_.check_writable());
  if (held_) co_return co_await thaw_here();
  {
    CO_TRY(const GlockHolder reading, co_await record_->acquire(GlockMode::shared));
    CO_TRY(const auto frozen, co_await frozen_by_record());
    if (!frozen && !frozen_) co_return fail(EINVAL, "{}: the volume is not frozen", volume_.device.name());
  }
  {
    CO_TRY(const GlockHolder request, co_await requests_->acquire(GlockMode::exclusive));
  }
  CO_TRY(const GlockHolder changing, co_await volume_.change());
  co_return Result<>{};
}

Task<Result<>> Freezer::giving_up() {
  CO_TRY_VOID(co_await come_to_rest_());
  if (!frozen_) frozen_ = Frozen{.by = std::nullopt, .since = volume_.clock.wall()};
  changed_.notify_all();
  if (follower_ && follower_->running() == 0) follower_->spawn(follow());
  co_return Result<>{};
}

/// Somebody freezes the volume, or gave that up: finds out, and has the right to change it back as soon as may be.
Task<void> Freezer::follow() {
  co_await volume_.executor.yield();  // the glock is on its way down
  if (auto reading = co_await record_->acquire(GlockMode::shared)) {
    const auto recorded = parse(record_->value());
    if (recorded && *recorded->by != self_) {
      frozen_ = recorded;
      volume_.log.info("the volume is frozen, {}: what would change it waits", describe(*frozen_));
    }
  }
  if (const auto changing = co_await volume_.change(); !changing) co_return;
  if (held_) co_return;
  if (frozen_ && frozen_->by) volume_.log.info("the volume is thawed");
  frozen_.reset();
}

Task<Result<std::optional<GlockHolder>>> Freezer::change_unless_at_rest() {
  std::optional<Result<GlockHolder>> taken;
  Scope asking(volume_.executor);
  asking.spawn(take(taken, kChangeMode));
  while (!taken && !volume_.withdrawn && !volume_.journal->frozen())
    co_await changed_.wait();
  if (!taken) co_return std::nullopt;
  CO_TRY(GlockHolder holder, *std::move(taken));
  volume_.journal->thaw();
  co_return holder;
}

Task<void> Freezer::close() {
  if (held_) {
    volume_.log.warning("the volume was frozen by this node, which unmounts: it is thawed");
    co_await thaw_here_and_tell();
  }
  if (thawing_) co_await thawing_->join();
  thawing_.reset();
  follower_.reset();
}

void Freezer::abandon() {
  thawing_.reset();
  follower_.reset();
  held_.reset();
}

}  // namespace corral
