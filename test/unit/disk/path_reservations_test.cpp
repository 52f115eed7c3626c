// The SCSI side of reservations against a logical unit made of the simulator's table: what one encodes the other
// decodes.
#include "disk/path_reservations.h"

#include <memory>
#include <vector>

#include "disk/reservation_format.h"
#include "disk/reservation_table.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"

using namespace corral;
using namespace corral::reservation_format;

namespace {
/// One nexus of a logical unit, as bytes.
class TableUnit final : public scsi::Transport {
 public:
  explicit TableUnit(ReservationTable& table) : table_(table), nexus_(table.add_nexus()) {}
  const std::string& name() const override { return name_; }
  Task<Result<scsi::Outcome>> execute(scsi::Command command, std::span<std::byte> data) override {
    if (unreachable) co_return fail(ECONNABORTED);
    if (table_.take_attention(nexus_)) {
      co_return scsi::Outcome{.status = scsi::Status::check_condition, .sense = {scsi::kUnitAttention, 0x2A, 5}};
    }
    co_return command.cdb[0] == 0x5E ? answer(command, data) : change(command, data);
  }
  Task<Result<>> reset_logical_unit() override { co_return Result<>{}; }
  bool may_write() const { return table_.may_write(nexus_); }
  bool unreachable = false;

 private:
  scsi::Outcome change(const scsi::Command& command, std::span<const std::byte> data) {
    ReservationKey key(scsi::get_big(data, 0, 8)), action_key(scsi::get_big(data, 8, 8));
    bool persist = data[20] != std::byte{0};
    switch (static_cast<Action>(command.cdb[1])) {
      case Action::register_key:
        return outcome_of(table_.register_key(nexus_, key, action_key, persist));
      case Action::register_and_ignore:
        return outcome_of(table_.register_and_ignore(nexus_, action_key, persist));
      case Action::reserve:
        return command.cdb[2] == 5 ? outcome_of(table_.reserve(nexus_, key)) : outcome_of(fail(EOPNOTSUPP));
      case Action::release:
        return command.cdb[2] == 5 ? outcome_of(table_.release(nexus_, key)) : outcome_of(fail(EOPNOTSUPP));
      case Action::clear:
        return outcome_of(table_.clear(nexus_, key));
      case Action::preempt:
      case Action::preempt_and_abort: {
        auto removed = table_.preempt(nexus_, key, action_key);
        return outcome_of(removed ? Result<>() : std::unexpected(removed.error()));
      }
    }
    return outcome_of(fail(EOPNOTSUPP));
  }

  scsi::Outcome answer(const scsi::Command& command, std::span<std::byte> data) {
    std::vector<std::byte> full;
    if (command.cdb[1] == static_cast<int>(Query::read_keys)) {
      RegisteredKeys keys = table_.keys();
      full.resize(key_list_bytes(keys.keys.size()));
      scsi::put_big(full, 0, 4, keys.generation);
      scsi::put_big(full, 4, 4, 8 * keys.keys.size());
      for (std::size_t i = 0; i < keys.keys.size(); ++i)
        scsi::put_big(full, key_list_bytes(i), 8, keys.keys[i].value);
    } else {
      ReservationState state = table_.reservation();
      bool held = state.type != ReservationType::none;
      full.resize(held ? 24 : 8);
      scsi::put_big(full, 0, 4, state.generation);
      if (held) {
        scsi::put_big(full, 4, 4, 16);
        scsi::put_big(full, 8, 8, state.holder.value);
        scsi::put_big(full, 21, 1, static_cast<std::uint64_t>(state.type));
      }
    }
    std::size_t length = std::min(full.size(), data.size());
    std::copy_n(full.begin(), length, data.begin());
    return {.transferred_bytes = static_cast<std::uint32_t>(length)};
  }

  static scsi::Outcome outcome_of(const Result<>& result) {
    if (result) return {};
    if (result.error().code() == EBADE) return {.status = scsi::Status::reservation_conflict};
    return {.status = scsi::Status::check_condition, .sense = {scsi::kIllegalRequest, 0x24, 0}};
  }

  std::string name_ = "unit";
  ReservationTable& table_;
  NexusId nexus_;
};

constexpr ReservationKey kOurs(0x11), kTheirs(0x22);

/// Two paths of ours and one of another node.
struct Bench {
  Bench() {
    std::vector<std::unique_ptr<scsi::Transport>> paths;
    for (TableUnit*& unit : units) {
      auto made = std::make_unique<TableUnit>(table);
      unit = made.get();
      paths.push_back(std::move(made));
    }
    ours = std::make_unique<PathReservations>(executor, std::move(paths));
  }
  template <class T>
  int code(Task<Result<T>> task) {
    Result<T> result = run_to_end(clock, executor, std::move(task));
    return result ? 0 : result.error().code();
  }
  ManualClock clock;
  Executor executor{clock};
  ReservationTable table;
  std::array<TableUnit*, 2> units{};
  std::unique_ptr<PathReservations> ours;
  TableUnit other{table};
  ScsiReservations theirs{executor, other};
};
}  // namespace

TEST_CASE("a key is registered on every path, and every path may write") {
  Bench bench;
  REQUIRE(bench.code(bench.theirs.register_and_ignore(kTheirs, false)) == 0);
  REQUIRE(bench.code(bench.theirs.reserve(kTheirs)) == 0);
  REQUIRE_FALSE(bench.units[0]->may_write());
  REQUIRE(bench.code(bench.ours->register_key({}, kOurs, true)) == 0);
  REQUIRE(bench.units[0]->may_write());
  REQUIRE(bench.units[1]->may_write());
  auto keys = run_to_end(bench.clock, bench.executor, bench.ours->read_keys());
  REQUIRE(keys->keys == std::vector{kTheirs, kOurs, kOurs});
  REQUIRE(keys->generation == 3);

  // Fencing takes all paths at once.
  REQUIRE(bench.code(bench.theirs.preempt(kTheirs, kOurs)) == 0);
  REQUIRE_FALSE(bench.units[0]->may_write());
  REQUIRE_FALSE(bench.units[1]->may_write());
}

TEST_CASE("a preempted node with several paths does not come back by one of them") {
  Bench bench;
  REQUIRE(bench.code(bench.ours->register_and_ignore(kOurs, false)) == 0);
  REQUIRE(bench.code(bench.theirs.register_and_ignore(kTheirs, false)) == 0);
  REQUIRE(bench.code(bench.theirs.preempt_and_abort(kTheirs, kOurs)) == 0);
  REQUIRE(bench.code(bench.ours->register_and_ignore(kOurs, false)) == EAGAIN);
  REQUIRE(bench.table.keys().keys == std::vector{kTheirs});
}

TEST_CASE("questions go over the next path where one is broken; changes are told as lost") {
  Bench bench;
  REQUIRE(bench.code(bench.ours->register_and_ignore(kOurs, false)) == 0);
  REQUIRE(bench.code(bench.ours->reserve(kOurs)) == 0);
  bench.units[0]->unreachable = true;
  auto state = run_to_end(bench.clock, bench.executor, bench.ours->read_reservation());
  REQUIRE(state->holder == kOurs);
  REQUIRE(state->type == ReservationType::write_exclusive_registrants_only);
  REQUIRE(bench.code(bench.ours->clear(kOurs)) == ECONNABORTED);
  REQUIRE(bench.code(bench.ours->register_key(kOurs, {}, false)) == ECONNABORTED);
  bench.units[0]->unreachable = false;
  REQUIRE(bench.code(bench.ours->release(kOurs)) == 0);
  REQUIRE(bench.table.reservation().type == ReservationType::none);
}
