#include "disk/reservation_format.h"

#include <functional>
#include <vector>

#include "disk/scsi_reservations.h"
#include "disk/write_cache_state.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"

using namespace corral;
using namespace corral::reservation_format;

namespace {
std::vector<std::byte> bytes(std::initializer_list<int> values, std::size_t length = 0) {
  std::vector<std::byte> made;
  for (int value : values)
    made.push_back(static_cast<std::byte>(value));
  made.resize(std::max(length, made.size()));
  return made;
}

/// READ KEYS of so many keys, numbered from 1.
std::vector<std::byte> key_list(std::size_t keys, std::uint32_t generation) {
  std::vector<std::byte> list(key_list_bytes(keys));
  scsi::put_big(list, 0, 4, generation);
  scsi::put_big(list, 4, 4, keys * 8);
  for (std::size_t i = 0; i < keys; ++i)
    scsi::put_big(list, key_list_bytes(i), 8, i + 1);
  return list;
}

/// A logical unit that answers as the test says, command by command.
class ScriptedUnit final : public scsi::Transport {
 public:
  using Answer = std::function<Result<scsi::Outcome>(const scsi::Command&, std::span<std::byte>)>;
  explicit ScriptedUnit(Answer answer) : answer_(std::move(answer)) {}
  const std::string& name() const override { return name_; }
  Task<Result<scsi::Outcome>> execute(scsi::Command command, std::span<std::byte> data) override {
    ++commands;
    co_return answer_(command, data);
  }
  Task<Result<>> reset_logical_unit() override { co_return fail(EOPNOTSUPP); }
  int commands = 0;

 private:
  std::string name_ = "scripted";
  Answer answer_;
};

scsi::Outcome attention(std::uint8_t asc, std::uint8_t ascq) {
  return {.status = scsi::Status::check_condition, .sense = {scsi::kUnitAttention, asc, ascq}};
}

struct Bench {
  explicit Bench(ScriptedUnit::Answer answer) : unit(std::move(answer)) {}
  template <class T>
  Result<T> run(Task<Result<T>> task) {
    return run_to_end(clock, executor, std::move(task));
  }
  ManualClock clock;
  Executor executor{clock};
  ScriptedUnit unit;
  ScsiReservations reservations{executor, unit};
};
}  // namespace

TEST_CASE("PERSISTENT RESERVE OUT and IN have the bytes of SPC-4") {
  scsi::Command preempt = reserve_out(Action::preempt);
  REQUIRE(preempt.cdb_length == 10);
  REQUIRE(std::vector<int>(preempt.cdb.begin(), preempt.cdb.begin() + 10) ==
          std::vector<int>{0x5F, 4, 5, 0, 0, 0, 0, 0, 24, 0});
  REQUIRE(reserve_out(Action::register_and_ignore).cdb[2] == 0);
  auto list = encode_parameters(ReservationKey(0x1122), ReservationKey(0x3344), true);
  REQUIRE(std::vector<std::byte>(list.begin(), list.end()) ==
          bytes({0, 0, 0, 0, 0, 0, 0x11, 0x22, 0, 0, 0, 0, 0, 0, 0x33, 0x44, 0, 0, 0, 0, 1, 0, 0, 0}));
  scsi::Command read = reserve_in(Query::read_reservation, 0x1234);
  REQUIRE(std::vector<int>(read.cdb.begin(), read.cdb.begin() + 10) ==
          std::vector<int>{0x5E, 1, 0, 0, 0, 0, 0, 0x12, 0x34, 0});
}

TEST_CASE("key lists, whole, cut short and absurd") {
  KeyList list = *decode_keys(key_list(3, 9));
  REQUIRE(list.registered.generation == 9);
  REQUIRE(list.registered.keys == std::vector{ReservationKey(1), ReservationKey(2), ReservationKey(3)});
  auto whole = key_list(10, 1);
  KeyList part = *decode_keys(std::span(whole).first(key_list_bytes(4) + 3));
  REQUIRE(part.registered.keys.size() == 4);
  REQUIRE(part.needed_bytes == key_list_bytes(10));
  REQUIRE(decode_keys(bytes({0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xF8}))->registered.keys.empty());
  REQUIRE_FALSE(decode_keys(bytes({0, 0, 0, 1, 0, 0, 0, 7}, 64)));
  REQUIRE_FALSE(decode_keys(bytes({0, 0, 0})));
}

TEST_CASE("reservations and capabilities") {
  REQUIRE(decode_reservation(bytes({0, 0, 0, 5, 0, 0, 0, 0}))->type == ReservationType::none);
  auto held = bytes({0, 0, 0, 5, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0x05, 0, 0});
  ReservationState state = *decode_reservation(held);
  REQUIRE(state.generation == 5);
  REQUIRE(state.holder == ReservationKey(9));
  REQUIRE(state.type == ReservationType::write_exclusive_registrants_only);
  REQUIRE_FALSE(decode_reservation(std::span(held).first(20)));
  held[21] = std::byte{0x02};
  REQUIRE_FALSE(decode_reservation(held));
  held[21] = std::byte{0x15};
  REQUIRE_FALSE(decode_reservation(held));

  REQUIRE(decode_capabilities(bytes({0, 8, 1, 0x81, 0x20, 0, 0, 0}))->persist_through_power_loss);
  REQUIRE(decode_capabilities(bytes({0, 8, 0, 0x80, 0x20, 0, 0, 0}))->write_exclusive_registrants_only);
  REQUIRE_FALSE(decode_capabilities(bytes({0, 8, 0, 0x80, 0x02, 0, 0, 0}))->write_exclusive_registrants_only);
  REQUIRE(decode_capabilities(bytes({0, 8, 0, 0, 0, 0, 0, 0}))->write_exclusive_registrants_only);
  REQUIRE_FALSE(decode_capabilities(bytes({0, 7, 0, 0, 0, 0, 0, 0})));
}

TEST_CASE("NVMe reservation reports of both sizes") {
  auto report = bytes({7, 0, 0, 0, 3, 2, 0, 0, 0, 1}, 24 + 2 * 24);
  report[24 + 2] = std::byte{1};
  report[24 + 16] = std::byte{0xAB};
  report[48 + 16] = std::byte{0xCD};
  NvmeReport decoded = *decode_nvme_report(report, false);
  REQUIRE(decoded.state.generation == 7);
  REQUIRE(decoded.state.type == ReservationType::write_exclusive_registrants_only);
  REQUIRE(decoded.state.holder == ReservationKey(0xAB));
  REQUIRE(decoded.registered.keys == std::vector{ReservationKey(0xAB), ReservationKey(0xCD)});
  REQUIRE(decoded.persisting);
  REQUIRE(decode_nvme_report(std::span(report).first(60), false)->registered.keys.size() == 1);
  REQUIRE(decode_nvme_report(std::span(report).first(60), false)->needed_bytes == 72);
  REQUIRE_FALSE(decode_nvme_report(std::span(report).first(23), false));
  report[4] = std::byte{9};
  REQUIRE_FALSE(decode_nvme_report(report, false));

  auto extended = bytes({1, 0, 0, 0, 0, 1, 0}, 128);
  extended[64 + 8] = std::byte{0x77};
  REQUIRE(decode_nvme_report(extended, true)->registered.keys == std::vector{ReservationKey(0x77)});
}

TEST_CASE("a key list that does not fit is read again with more room") {
  Bench bench([](const scsi::Command& command, std::span<std::byte> data) -> Result<scsi::Outcome> {
    auto list = key_list(200, 4);
    std::size_t length = std::min(list.size(), data.size());
    CHECK(command.length_bytes == data.size());
    std::copy_n(list.begin(), length, data.begin());
    return scsi::Outcome{.transferred_bytes = static_cast<std::uint32_t>(length)};
  });
  auto keys = bench.run(bench.reservations.read_keys());
  REQUIRE(keys->keys.size() == 200);
  REQUIRE(bench.unit.commands == 2);
}

TEST_CASE("a unit that tells of more keys than it gives does not keep us for ever") {
  Bench bench([](const scsi::Command&, std::span<std::byte> data) -> Result<scsi::Outcome> {
    scsi::put_big(data, 4, 4, 800);
    return scsi::Outcome{.transferred_bytes = 8};
  });
  REQUIRE(bench.run(bench.reservations.read_keys()).error().code() == EPROTO);
}

TEST_CASE("unit attentions are met: retried, except where a key could come back") {
  std::vector<scsi::Outcome> answers{attention(0x29, 0), attention(0x2A, 5), {}};
  std::size_t next = 0;
  Bench bench([&](const scsi::Command&, std::span<std::byte>) -> Result<scsi::Outcome> { return answers[next++]; });
  SECTION("REGISTER names its own key") {
    REQUIRE(bench.run(bench.reservations.register_key(ReservationKey(1), ReservationKey(2), false)));
    REQUIRE(next == 3);
  }
  SECTION("REGISTER AND IGNORE EXISTING KEY does not") {
    auto registered = bench.run(bench.reservations.register_and_ignore(ReservationKey(2), false));
    REQUIRE(registered.error().code() == EAGAIN);
    REQUIRE(next == 2);
  }
}

TEST_CASE("a unit that is always busy or attentive gives an error in the end") {
  scsi::Outcome answer = GENERATE(attention(0x29, 0), scsi::Outcome{.status = scsi::Status::task_set_full});
  Bench bench([&](const scsi::Command&, std::span<std::byte>) -> Result<scsi::Outcome> { return answer; });
  REQUIRE_FALSE(bench.run(bench.reservations.reserve(ReservationKey(1))));
}

TEST_CASE("a question is asked again where the way broke, a change is not") {
  Bench bench([&](const scsi::Command&, std::span<std::byte> data) -> Result<scsi::Outcome> {
    if (bench.unit.commands == 1) return fail(ECONNABORTED);
    return scsi::Outcome{.transferred_bytes = static_cast<std::uint32_t>(std::min<std::size_t>(8, data.size()))};
  });
  SECTION("READ RESERVATION") {
    REQUIRE(bench.run(bench.reservations.read_reservation()));
  }
  SECTION("PREEMPT") {
    auto preempted = bench.run(bench.reservations.preempt(ReservationKey(1), ReservationKey(2)));
    REQUIRE(preempted.error().code() == ECONNABORTED);
    REQUIRE(bench.unit.commands == 1);
  }
}

TEST_CASE("a write cache loses what was not flushed, and only that") {
  WriteCacheState cache;
  cache.note_loss();
  REQUIRE_FALSE(cache.lost());
  cache.note_write();
  auto mark = cache.begin_flush();
  cache.note_write();
  cache.end_flush(mark);
  SECTION("the second write was not covered") {
    cache.note_loss();
    REQUIRE(cache.lost());
    cache.end_flush(cache.begin_flush());
    REQUIRE(cache.lost());
  }
  SECTION("covered by a later flush") {
    cache.end_flush(cache.begin_flush());
    cache.note_loss();
    REQUIRE_FALSE(cache.lost());
  }
}

TEST_CASE("what vouches for a disk's power") {
  const ReservationKey own(5);
  RegisteredKeys now{.generation = 4, .keys = {ReservationKey(1), own}};
  REQUIRE(PowerWitness{.generation = 4}.vouches_for(now));
  REQUIRE(PowerWitness{.generation = 3, .own_key = own}.vouches_for(now));
  REQUIRE_FALSE(PowerWitness{.generation = 5}.vouches_for(now));
  REQUIRE_FALSE(PowerWitness{.generation = 0}.vouches_for(now));
  // Others have registered again after a restart, and reached the old number.
  REQUIRE_FALSE(PowerWitness{.generation = 2, .own_key = ReservationKey(6)}.vouches_for(now));
}
