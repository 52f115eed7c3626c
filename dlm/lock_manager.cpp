#include "dlm/lock_manager.h"

#include "base/check.h"
#include "dlm/posix_locks.h"

namespace corral::dlm {

LockManager::LockManager(Executor& executor, Link& link, Limits limits, Logger logger)
    : executor_(executor),
      link_(link),
      logger_(std::move(logger)),
      engine_(link.self(), executor.clock(), limits),
      frames_waiting_(executor),
      untold_waiting_(executor),
      state_changed_(executor),
      scope_(executor) {
  link_.attach(LinkChannel::locks, this);
  scope_.spawn(flush_frames());
  scope_.spawn(tell_listeners());
}

LockManager::~LockManager() {
  CHECK_INVARIANT(locks_.empty());
  link_.attach(LinkChannel::locks, nullptr);
}

void LockManager::enter_view(const View& view) {
  engine_.enter_view(view);
  if (engine_.out_of_cluster()) {
    logger_.warning("lock manager: view {} is without this node: locks are void", view.number.value);
    state_changed_.notify_all();
  }
  act();
}

void LockManager::leave_cluster() {
  if (out_of_cluster()) return;
  engine_.enter_view({.number = view().number + 1, .members = {}});
  state_changed_.notify_all();
  act();
}

void LockManager::recovered(Member member) {
  engine_.recovered(member);
  act();
}

Task<Result<>> LockManager::wait_until_running() {
  while (!running()) {
    if (out_of_cluster()) co_return fail(ESHUTDOWN);
    co_await state_changed_.wait();
  }
  co_return Result<>();
}

void LockManager::received(Member from, std::span<const std::byte> message) {
  auto frame = decode_frame(message);
  if (!frame || frame->header.from != from) {
    FaultAction action{fmt::format("lock manager: from {}: {}", from.describe(),
                                   frame ? "a frame in another's name" : frame.error().describe())};
    carry_out(action);
    return;
  }
  engine_.received(frame->header, std::move(frame->messages));
  act();
}

void LockManager::connected(Member peer) {
  engine_.connected(peer);
  act();
}

void LockManager::act() {
  if (std::exchange(acting_, true)) return;
  while (engine_.has_actions()) {
    for (Action& action : engine_.take_actions())
      std::visit([this](auto& one) { carry_out(one); }, action);
  }
  acting_ = false;
}

void LockManager::carry_out(SendAction& action) {
  const FrameHeader header{engine_.view().number, self(), action.to};
  auto [found, added] = frames_.try_emplace(action.to.node, header);
  FrameWriter& writer = found->second;
  // What is left of an earlier view would be refused.
  if (writer.header() != header) writer = FrameWriter(header);
  if (!writer.add(action.message)) {
    link_.send(action.to, LinkChannel::locks, std::move(writer).take());
    writer = FrameWriter(header);
    const bool fits = writer.add(action.message);
    CHECK_INVARIANT(fits);
  }
  frames_waiting_.notify_all();
}

/// Runs after everything that is ready now, so that all it has to say to a peer goes together.
Task<void> LockManager::flush_frames() {
  for (;;) {
    while (frames_.empty())
      co_await frames_waiting_.wait();
    flush();
  }
}

void LockManager::flush() {
  auto frames = std::exchange(frames_, {});
  for (auto& [node, writer] : frames) {
    const Member to = writer.header().to;
    link_.send(to, LinkChannel::locks, std::move(writer).take());
  }
}

void LockManager::carry_out(CompleteAction& action) {
  auto found = locks_.find(action.lock);
  if (found != locks_.end()) {
    Lock& lock = *found->second;
    if (!action.outcome.granted) locks_.erase(found);
    lock.ended(action.outcome);
  } else if (action.outcome.granted && !out_of_cluster()) {
    // Its Lock was destroyed meanwhile.
    const auto unlocked = engine_.unlock(action.lock, {}, {});
    CHECK_INVARIANT(unlocked.has_value());
  }
}

void LockManager::carry_out(BlockingAction& action) {
  untold_.push_back(action);
  untold_waiting_.notify_all();
}

Task<void> LockManager::tell_listeners() {
  for (;;) {
    while (untold_.empty())
      co_await untold_waiting_.wait();
    const BlockingAction action = untold_.front();
    untold_.pop_front();
    auto found = locks_.find(action.lock);
    if (found == locks_.end()) continue;
    Lock& lock = *found->second;
    const bool in_the_way = lock.granted_ && !compatible(*lock.granted_, action.requested);
    if (in_the_way && lock.listener_ != nullptr) lock.listener_->blocking(lock, action.requested);
  }
}

void LockManager::carry_out(RangeCompleteAction& action) {
  auto found = ranges_.find(action.operation);
  if (found != ranges_.end()) found->second.completion->set(action.outcome);
}

void LockManager::carry_out(RangeDeadlockAction& action) {
  std::set<std::uint64_t> not_of_processes;
  for (std::uint64_t operation : action.passed) {
    auto found = ranges_.find(operation);
    const bool of_process = found != ranges_.end() && found->second.wait != nullptr && found->second.wait->of_process();
    if (!of_process) not_of_processes.insert(operation);
  }
  engine_.end_range_deadlock(action.operation, not_of_processes);
}

void LockManager::carry_out(RunningAction& action) {
  logger_.info("lock manager: view {} runs with {} members", action.view.value, view().members.size());
  state_changed_.notify_all();
}

void LockManager::carry_out(FaultAction& action) {
  ++faults_;
  logger_.error("{}", action.what);
}

Lock::Lock(LockManager& manager, ResourceName name, LockListener* listener)
    : manager_(manager), name_(name), listener_(listener) {}

Lock::~Lock() {
  if (!id_) return;
  manager_.locks_.erase(id_);
  if (manager_.out_of_cluster()) return;
  const auto done = busy_ ? manager_.engine_.cancel(id_) : manager_.engine_.unlock(id_, {}, {});
  CHECK_INVARIANT(done.has_value());
  manager_.act();
}

Task<Result<Lock::Granted>> Lock::acquire(Mode mode, LockFlags flags, ValueBytes written) {
  if (busy_) co_return fail(EBUSY);
  if (id_) {
    CO_TRY_VOID(manager_.engine_.convert(id_, mode, flags, written));
  } else {
    CO_TRY(id_, manager_.engine_.lock(name_, mode, flags));
    manager_.locks_.emplace(id_, this);
  }
  Outcome outcome = co_await finished();
  if (outcome.error != 0) co_return fail(outcome.error);
  co_return Granted{outcome.demoted};
}

Task<Result<>> Lock::release(LockFlags flags, ValueBytes written) {
  if (busy_) co_return fail(EBUSY);
  if (!id_) co_return Result<>();
  CO_TRY_VOID(manager_.engine_.unlock(id_, flags, written));
  Outcome outcome = co_await finished();
  if (outcome.error != 0) co_return fail(outcome.error);
  co_return Result<>();
}

void Lock::cancel() {
  if (!busy_) return;
  const auto done = manager_.engine_.cancel(id_);
  CHECK_INVARIANT(done.has_value());
  manager_.act();
}

Task<Outcome> Lock::finished() {
  busy_ = true;
  completion_.emplace(manager_.executor_);
  manager_.act();
  co_return co_await completion_->wait();
}

void Lock::ended(const Outcome& outcome) {
  CHECK_INVARIANT(busy_);
  busy_ = false;
  granted_ = outcome.granted;
  value_ = outcome.value;
  if (!granted_) id_ = LockId{};
  completion_->set(outcome);
}

}  // namespace corral::dlm
