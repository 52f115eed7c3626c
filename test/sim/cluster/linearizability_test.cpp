#include "test/sim/cluster/linearizability.h"

#include "test/sim/cluster/file_model.h"
#include "test/sim/cluster/names_model.h"
#include "test/support/catch.h"

using namespace corral::sim;
using Kind = Operation::Kind;

namespace {

bool possible(const std::vector<Operation>& history, bool power_cuts = false) {
  const Mixtures mixtures;
  const auto result = LinearizabilityCheck<FileModel>(FileModel(mixtures, power_cuts), history, {}).run();
  REQUIRE(result.decided);
  return !result.violation;
}

bool possible_names(const std::vector<Operation>& history) {
  NamesModel::State initial;
  initial.now.resize(2, 0);
  const auto result = LinearizabilityCheck<NamesModel>(NamesModel(), history, initial).run();
  REQUIRE(result.decided);
  return !result.violation;
}

Operation append(LifeId life, Step begin, Step end, SlotValue value) {
  return {.kind = Kind::append, .life = life, .begin = begin, .end = end, .value = value};
}
Operation read(LifeId life, Step begin, Step end, std::vector<SlotValue> seen) {
  return {.kind = Kind::read, .life = life, .begin = begin, .end = end, .seen = std::move(seen)};
}
Operation simple(Kind kind, LifeId life, Step begin, Step end) {
  return {.kind = kind, .life = life, .begin = begin, .end = end};
}
Operation name(Kind kind, LifeId life, Step begin, Step end, int error, InodeTag tag) {
  return {.kind = kind, .life = life, .begin = begin, .end = end, .error = error, .tag = tag};
}

}  // namespace

TEST_CASE("a read sees what was written before it", "[linearizability]") {
  CHECK(possible({append(1, 1, 2, 7), read(2, 3, 4, {7})}));
  CHECK_FALSE(possible({append(1, 1, 2, 7), read(2, 3, 4, {})}));
  CHECK_FALSE(possible({append(1, 1, 2, 7), read(2, 3, 4, {7, 7})}));
}

TEST_CASE("operations at the same time may come in either order, but in one", "[linearizability]") {
  CHECK(possible({append(1, 1, 9, 7), read(2, 2, 3, {}), read(2, 4, 5, {7})}));
  CHECK_FALSE(possible({append(1, 1, 9, 7), read(2, 2, 3, {7}), read(2, 4, 5, {})}));
  CHECK(possible({append(1, 1, 4, 7), append(2, 2, 3, 8), read(1, 5, 6, {8, 7})}));
  CHECK_FALSE(possible({append(1, 1, 4, 7), append(2, 2, 3, 8), read(1, 5, 6, {7})}));
}

TEST_CASE("a power cut of the disk undoes data that was overwritten and seen, unless somebody synced",
          "[linearizability]") {
  Operation death = simple(Kind::death, 1, 20, 21);
  death.with_disk = true;
  const auto write = [](Step begin, SlotValue value) {
    return Operation{.kind = Kind::write, .life = 1, .begin = begin, .end = begin + 1, .count = 1, .value = value};
  };
  const auto told = [&](SlotValue after, bool synced) {
    std::vector<Operation> history{append(1, 1, 2, 7), simple(Kind::sync, 1, 3, 4), write(5, 8), read(2, 7, 8, {8})};
    if (synced) history.push_back(simple(Kind::sync, 2, 9, 10));
    history.push_back(death);
    history.push_back(read(3, 22, 23, {after}));
    return possible(history, true);
  };
  CHECK(told(8, false));
  CHECK(told(7, false));
  CHECK_FALSE(told(9, false));
  CHECK(told(8, true));
  CHECK_FALSE(told(7, true));
  // The file's size was committed when it was handed over.
  CHECK_FALSE(possible({append(1, 1, 2, 7), read(2, 3, 4, {7}), death, read(3, 22, 23, {})}, true));
}

TEST_CASE("a death undoes what nobody else has seen and was not synced", "[linearizability]") {
  const Operation death = simple(Kind::death, 1, 5, 6);
  CHECK(possible({append(1, 1, 2, 7), death, read(2, 7, 8, {})}));
  CHECK(possible({append(1, 1, 2, 7), death, read(2, 7, 8, {7})}));
  CHECK_FALSE(possible({append(1, 1, 2, 7), simple(Kind::sync, 1, 3, 4), death, read(2, 7, 8, {})}));
  CHECK_FALSE(possible({append(1, 1, 2, 7), read(2, 3, 4, {7}), death, read(2, 7, 8, {})}));
  // Once it was seen what the death left, it stays so.
  CHECK_FALSE(possible({append(1, 1, 2, 7), death, read(2, 7, 8, {}), read(3, 9, 10, {7})}));
}

TEST_CASE("what was never answered may have happened, but not after the death", "[linearizability]") {
  const Operation death = simple(Kind::death, 1, 5, 6);
  CHECK(possible({append(1, 1, kNever, 7), death, read(2, 7, 8, {7})}));
  CHECK(possible({append(1, 1, kNever, 7), death, read(2, 7, 8, {})}));
  CHECK_FALSE(possible({append(1, 1, kNever, 7), death, read(2, 7, 8, {}), read(2, 9, 10, {7})}));
}

TEST_CASE("of two who make one name one is told that it exists", "[linearizability]") {
  CHECK(possible_names({name(Kind::insert, 1, 1, 4, 0, 70), name(Kind::insert, 2, 2, 3, EEXIST, 80),
                        name(Kind::lookup, 3, 5, 6, 0, 70)}));
  CHECK_FALSE(possible_names({name(Kind::insert, 1, 1, 4, 0, 70), name(Kind::insert, 2, 2, 3, 0, 80)}));
  CHECK_FALSE(possible_names({name(Kind::insert, 1, 1, 2, 0, 70), name(Kind::lookup, 2, 3, 4, ENOENT, 0)}));
}

TEST_CASE("names that a death undoes go the latest first", "[linearizability]") {
  const Operation first = name(Kind::insert, 1, 1, 2, 0, 70);
  const Operation second{.kind = Kind::insert, .life = 1, .begin = 3, .end = 4, .first = 1, .tag = 80};
  const Operation death = simple(Kind::death, 1, 5, 6);
  const Operation second_there{.kind = Kind::lookup, .life = 2, .begin = 9, .end = 10, .first = 1, .tag = 80};
  CHECK(possible_names({first, second, death, name(Kind::lookup, 2, 7, 8, 0, 70)}));
  CHECK_FALSE(possible_names({first, second, death, name(Kind::lookup, 2, 7, 8, ENOENT, 0), second_there}));
}
