// The queue of one resource: who is granted, who waits, who is told.
#include "dlm/lock_queue.h"

#include <deque>

#include "base/random.h"
#include "test/support/catch.h"

using namespace corral;
using namespace corral::dlm;

namespace {

using State = QueuedLock::State;

/// A queue, its locks, and the events of the last operation.
struct Bench {
  ~Bench() {
    for (QueuedLock& lock : locks) {
      if (lock.is_linked()) queue.unlock(lock, {}, events);
    }
  }
  QueuedLock& request(Mode mode, LockFlags flags = {}) {
    events.clear();
    QueuedLock& lock = locks.emplace_back(LockOwner{{NodeId(1), Incarnation(1)}, LockId(locks.size() + 1)});
    queue.request(lock, mode, flags, {}, events);
    return lock;
  }
  void convert(QueuedLock& lock, Mode mode, LockFlags flags = {}) {
    events.clear();
    queue.convert(lock, mode, flags, {}, events);
  }
  void unlock(QueuedLock& lock) {
    events.clear();
    queue.unlock(lock, {}, events);
  }
  bool cancel(QueuedLock& lock) {
    events.clear();
    return queue.cancel(lock, {}, events);
  }
  std::optional<ReplyCode> answer(const QueuedLock& lock) const {
    std::optional<ReplyCode> last;
    for (const QueueEvent& event : events) {
      if (event.kind == QueueEvent::Kind::reply && event.owner == lock.owner) last = event.code;
    }
    return last;
  }
  std::optional<Mode> told(const QueuedLock& lock) const {
    std::optional<Mode> last;
    for (const QueueEvent& event : events) {
      if (event.kind == QueueEvent::Kind::blocking && event.owner == lock.owner) last = event.mode;
    }
    return last;
  }
  LockQueue queue;
  std::deque<QueuedLock> locks;
  LockQueue::Events events;
};

}  // namespace

TEST_CASE("all pairs of modes: granted together or one after the other") {
  for (Mode held : kAllModes) {
    for (Mode wanted : kAllModes) {
      INFO(name(held) << " then " << name(wanted));
      Bench bench;
      QueuedLock& first = bench.request(held);
      CHECK(bench.answer(first) == ReplyCode::granted);
      QueuedLock& second = bench.request(wanted);
      CHECK(bench.answer(second) == (compatible(held, wanted) ? ReplyCode::granted : ReplyCode::queued));
      CHECK(bench.told(first) == (compatible(held, wanted) ? std::optional<Mode>() : wanted));
      bench.unlock(first);
      CHECK(second.state == State::granted);
      CHECK(second.granted == wanted);
    }
  }
}

TEST_CASE("all conversions beside every other mode") {
  for (Mode from : kAllModes) {
    for (Mode to : kAllModes) {
      for (Mode other : kAllModes) {
        if (!compatible(from, other)) continue;
        INFO(name(from) << " to " << name(to) << " beside " << name(other));
        Bench bench;
        QueuedLock& lock = bench.request(from);
        QueuedLock& beside = bench.request(other);
        bench.convert(lock, to);
        if (compatible(to, other)) {
          CHECK(bench.answer(lock) == ReplyCode::granted);
          CHECK(lock.granted == to);
          continue;
        }
        CHECK(bench.answer(lock) == ReplyCode::queued);
        CHECK(lock.granted == from);
        CHECK(bench.told(beside) == to);
        bench.unlock(beside);
        CHECK(bench.answer(lock) == ReplyCode::granted);
        CHECK(lock.granted == to);
      }
    }
  }
}

TEST_CASE("a new lock does not pass one that waits, unless it may") {
  Bench bench;
  QueuedLock& reader = bench.request(Mode::protected_read);
  QueuedLock& writer = bench.request(Mode::exclusive);
  QueuedLock& late = bench.request(Mode::protected_read);
  CHECK(bench.answer(late) == ReplyCode::queued);
  CHECK(bench.answer(bench.request(Mode::null)) == ReplyCode::queued);
  CHECK(bench.answer(bench.request(Mode::null, {.expedite = true})) == ReplyCode::granted);
  CHECK(bench.answer(bench.request(Mode::protected_read, {.no_order = true})) == ReplyCode::granted);
  CHECK(bench.answer(bench.request(Mode::protected_read, {.no_queue = true})) == ReplyCode::would_block);
  bench.unlock(bench.locks[5]);
  bench.unlock(reader);
  CHECK(writer.state == State::granted);
  CHECK(late.state == State::waiting);
  bench.unlock(writer);
  CHECK(late.state == State::granted);
}

TEST_CASE("conversions come before new locks") {
  Bench bench;
  QueuedLock& first = bench.request(Mode::protected_read);
  QueuedLock& second = bench.request(Mode::protected_read);
  QueuedLock& fresh = bench.request(Mode::exclusive);
  bench.convert(second, Mode::exclusive);
  CHECK(bench.answer(second) == ReplyCode::queued);
  bench.unlock(first);
  CHECK(second.granted == Mode::exclusive);
  CHECK(fresh.state == State::waiting);
  CHECK(bench.told(second) == Mode::exclusive);
}

TEST_CASE("a conversion passes waiting conversions, unless it is to queue behind them") {
  for (bool queue_convert : {false, true}) {
    Bench bench;
    QueuedLock& held = bench.request(Mode::protected_read);
    QueuedLock& first = bench.request(Mode::null);
    QueuedLock& second = bench.request(Mode::null);
    bench.convert(first, Mode::exclusive);
    CHECK(bench.answer(first) == ReplyCode::queued);
    bench.convert(second, Mode::protected_read, {.queue_convert = queue_convert});
    CHECK(bench.answer(second) == (queue_convert ? ReplyCode::queued : ReplyCode::granted));
    // A down-conversion waits for nobody.
    bench.convert(held, Mode::concurrent_read, {.queue_convert = true});
    CHECK(bench.answer(held) == ReplyCode::granted);
  }
}

TEST_CASE("a conversion deadlock is refused, or ended by demotion") {
  for (bool demote : {false, true}) {
    Bench bench;
    QueuedLock& first = bench.request(Mode::protected_read);
    QueuedLock& second = bench.request(Mode::protected_read);
    bench.convert(first, Mode::exclusive);
    CHECK(bench.answer(first) == ReplyCode::queued);
    bench.convert(second, Mode::exclusive, {.demote_on_deadlock = demote});
    if (!demote) {
      CHECK(bench.answer(second) == ReplyCode::deadlock);
      CHECK(second.granted == Mode::protected_read);
      CHECK(first.state == State::converting);
      continue;
    }
    CHECK(bench.answer(first) == ReplyCode::granted);
    CHECK(bench.answer(second) == ReplyCode::queued);
    CHECK(bench.told(first) == Mode::exclusive);
    bench.unlock(first);
    CHECK(second.granted == Mode::exclusive);
    CHECK(bench.events.size() == 2);
    CHECK(bench.events[1].demoted);
  }
}

// Found by random runs: the one that may pass others waits for one that waits behind one that it hinders itself.
TEST_CASE("a conversion that may pass others does not escape deadlock by that") {
  Bench bench;
  QueuedLock& first = bench.request(Mode::null);
  QueuedLock& second = bench.request(Mode::concurrent_read);
  QueuedLock& third = bench.request(Mode::protected_read);
  bench.convert(first, Mode::protected_write);
  bench.convert(second, Mode::protected_read, {.queue_convert = true});
  CHECK(bench.answer(second) == ReplyCode::queued);
  bench.convert(third, Mode::exclusive, {.no_order = true});
  CHECK(bench.answer(third) == ReplyCode::deadlock);
}

TEST_CASE("cancelling lets those behind go on") {
  Bench bench;
  QueuedLock& held = bench.request(Mode::protected_read);
  QueuedLock& writer = bench.request(Mode::exclusive);
  QueuedLock& reader = bench.request(Mode::protected_read);
  CHECK(bench.cancel(writer));
  CHECK(bench.answer(writer) == ReplyCode::cancelled);
  CHECK(!writer.is_linked());
  CHECK(reader.state == State::granted);
  bench.convert(held, Mode::exclusive);
  CHECK(held.state == State::converting);
  CHECK(!bench.cancel(held));
  CHECK(held.state == State::granted);
  CHECK(held.granted == Mode::protected_read);
  // Nothing waits: nothing happens.
  CHECK(!bench.cancel(held));
  CHECK(bench.events.empty());
}

TEST_CASE("holders are told once per mode, and again when they got another") {
  Bench bench;
  QueuedLock& held = bench.request(Mode::exclusive);
  bench.request(Mode::protected_read);
  CHECK(bench.told(held) == Mode::protected_read);
  bench.request(Mode::protected_read);
  CHECK(!bench.told(held));
  bench.request(Mode::exclusive);
  CHECK(bench.told(held) == Mode::exclusive);
  bench.convert(held, Mode::protected_read);
  CHECK(bench.told(held) == Mode::exclusive);
}

TEST_CASE("a blocked resource grants nothing that could see or spoil what the dead wrote") {
  Bench bench;
  QueuedLock& held = bench.request(Mode::protected_read);
  bench.queue.block_for(NodeId(3));
  bench.queue.block_for(NodeId(5));
  QueuedLock& reader = bench.request(Mode::protected_read);
  CHECK(bench.answer(reader) == ReplyCode::queued);
  CHECK(bench.answer(bench.request(Mode::protected_read, {.during_recovery = true})) == ReplyCode::granted);
  CHECK(bench.answer(bench.request(Mode::concurrent_read, {.no_queue = true})) == ReplyCode::would_block);
  bench.convert(held, Mode::concurrent_read);
  CHECK(bench.answer(held) == ReplyCode::granted);
  bench.queue.unblock(NodeId(3));
  bench.events.clear();
  bench.queue.resume({}, bench.events);
  CHECK(reader.state == State::waiting);
  bench.queue.unblock(NodeId(5));
  bench.queue.resume({}, bench.events);
  CHECK(bench.answer(reader) == ReplyCode::granted);
}

TEST_CASE("an attempt among the living is decided when the dead are recovered") {
  LockFlags attempt;
  attempt.no_queue = attempt.no_queue_blocking = true;
  LockFlags among_living = attempt;
  among_living.after_recovery = true;
  Bench bench;
  QueuedLock& holder = bench.request(Mode::protected_read);
  bench.queue.block_for(NodeId(9));

  QueuedLock& at_once = bench.request(Mode::exclusive, attempt);
  CHECK(bench.answer(at_once) == ReplyCode::would_block);
  CHECK_FALSE(at_once.is_linked());

  QueuedLock& later = bench.request(Mode::exclusive, among_living);
  CHECK(bench.answer(later) == ReplyCode::queued);
  QueuedLock& reader = bench.request(Mode::protected_read);
  CHECK(bench.answer(reader) == ReplyCode::queued);
  bench.events.clear();
  SECTION("somebody living is in the way: refused, those behind go on") {
    bench.queue.unblock(NodeId(9));
    bench.queue.resume({}, bench.events);
    CHECK(bench.answer(later) == ReplyCode::would_block);
    CHECK(bench.told(holder) == Mode::exclusive);
    CHECK_FALSE(later.is_linked());
    CHECK(bench.answer(reader) == ReplyCode::granted);
  }
  SECTION("nobody is") {
    bench.unlock(holder);
    bench.events.clear();
    bench.queue.unblock(NodeId(9));
    bench.queue.resume({}, bench.events);
    CHECK(bench.answer(later) == ReplyCode::granted);
    CHECK_FALSE(bench.answer(reader));
  }
  SECTION("not while another dead node blocks the resource") {
    bench.queue.block_for(NodeId(8));
    bench.queue.unblock(NodeId(9));
    bench.queue.resume({}, bench.events);
    CHECK_FALSE(bench.answer(later));
  }
}

TEST_CASE("the value with the higher sequence stays") {
  LockQueue queue;
  LockValue newer;
  newer.sequence = 4;
  newer.bytes.fill(std::byte{4});
  LockValue older = newer;
  older.sequence = 3;
  older.bytes.fill(std::byte{3});
  queue.write_value(newer);
  queue.write_value(older);
  CHECK(queue.value() == newer);
  queue.invalidate_value();
  CHECK(!queue.value().valid);
  newer.sequence = 5;
  queue.write_value(newer);
  CHECK(queue.value().valid);
}

TEST_CASE("a storm of readers does not starve a writer, nor of writers a reader") {
  for (Mode crowd : {Mode::protected_read, Mode::exclusive}) {
    Bench bench;
    Random random(1);
    std::deque<QueuedLock*> holders;
    for (int i = 0; i < 50; ++i)
      holders.push_back(&bench.request(crowd));
    QueuedLock& lone = bench.request(crowd == Mode::exclusive ? Mode::protected_read : Mode::exclusive);
    int served = 0;
    // For each that leaves another of the crowd comes.
    while (lone.state == State::waiting) {
      bench.request(crowd);
      auto granted = std::ranges::find_if(
          bench.locks, [](const QueuedLock& lock) { return lock.is_linked() && lock.state == State::granted; });
      REQUIRE(granted != bench.locks.end());
      bench.unlock(*granted);
      ++served;
      REQUIRE(served <= 51);
    }
  }
}

TEST_CASE("random operations keep the queue's rules") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Bench bench;
    Random random(seed);
    for (int step = 0; step < 300; ++step) {
      std::vector<QueuedLock*> present;
      for (QueuedLock& lock : bench.locks) {
        if (lock.is_linked()) present.push_back(&lock);
      }
      const Mode mode = kAllModes[random.below(kModes)];
      LockFlags flags;
      flags.no_order = random.chance(1, 8);
      flags.demote_on_deadlock = random.chance(1, 4);
      flags.queue_convert = random.chance(1, 2);
      if (present.size() < 3 || (present.size() < 12 && random.chance(1, 3))) {
        bench.request(mode, flags);
      } else {
        QueuedLock& lock = *present[random.below(present.size())];
        if (lock.state != State::granted) {
          bench.cancel(lock);
        } else if (random.chance(1, 2)) {
          bench.unlock(lock);
        } else {
          bench.convert(lock, mode, flags);
        }
      }
      INFO("seed " << seed << " step " << step);
      // No two granted modes exclude each other; what is first and hindered by no granted mode is granted.
      std::vector<const QueuedLock*> granted;
      for (const QueuedLock& lock : bench.queue.granted())
        granted.push_back(&lock);
      for (const QueuedLock& lock : bench.queue.converting())
        granted.push_back(&lock);
      bool sound = true;
      for (const QueuedLock* one : granted) {
        for (const QueuedLock* other : granted)
          sound = sound && (one == other || compatible(one->granted, other->granted));
      }
      REQUIRE(sound);
      const bool conversions = !bench.queue.converting().empty();
      if (!conversions && bench.queue.waiting().empty()) continue;
      const QueuedLock& head = conversions ? bench.queue.converting().front() : bench.queue.waiting().front();
      // Somebody who is not stuck himself, or one that can be asked to leave, is in the way of the first.
      REQUIRE(std::ranges::any_of(granted, [&](const QueuedLock* lock) {
        return lock != &head && !compatible(lock->granted, head.requested) && lock->state == State::granted;
      }));
    }
  }
}
