// The tables of modes, each checked against what it means rather than against another table.
#include "dlm/mode.h"

#include "test/support/catch.h"

using namespace corral::dlm;

namespace {

/// What a mode lets its holder do, and what it keeps others from.
struct Meaning {
  bool reads;
  bool writes;
  bool others_read;
  bool others_write;
};
constexpr Meaning kMeaning[kModes] = {
    {false, false, true, true},  // NL
    {true, false, true, true},   // CR
    {true, true, true, true},    // CW
    {true, false, true, false},  // PR
    {true, true, true, false},   // PW
    {true, true, false, false},  // EX
};

bool tolerates(Mode held, Mode other) {
  const Meaning& mine = kMeaning[index(held)];
  const Meaning& its = kMeaning[index(other)];
  return (mine.others_read || !its.reads) && (mine.others_write || !its.writes);
}

/// What the weaker allows and excludes, the stronger does too.
bool implies(Mode stronger, Mode weaker) {
  const Meaning& a = kMeaning[index(stronger)];
  const Meaning& b = kMeaning[index(weaker)];
  return (a.reads || !b.reads) && (a.writes || !b.writes) && (!a.others_read || b.others_read) &&
         (!a.others_write || b.others_write);
}

}  // namespace

TEST_CASE("two modes are compatible if neither does what the other excludes") {
  for (Mode a : kAllModes) {
    for (Mode b : kAllModes) {
      INFO(name(a) << " and " << name(b));
      CHECK(compatible(a, b) == (tolerates(a, b) && tolerates(b, a)));
      CHECK(compatible(a, b) == compatible(b, a));
    }
  }
}

TEST_CASE("a down-conversion goes to a mode that the old one implies, and hinders nobody new") {
  for (Mode from : kAllModes) {
    for (Mode to : kAllModes) {
      INFO(name(from) << " to " << name(to));
      CHECK(is_down_conversion(from, to) == implies(from, to));
      if (!is_down_conversion(from, to)) continue;
      for (Mode other : kAllModes) {
        if (compatible(from, other)) CHECK(compatible(to, other));
      }
    }
  }
}

TEST_CASE("the meet of two modes is implied by both and implies all that both imply") {
  for (Mode a : kAllModes) {
    for (Mode b : kAllModes) {
      const Mode both = meet(a, b);
      INFO(name(a) << " and " << name(b) << ": " << name(both));
      CHECK((implies(a, both) && implies(b, both)));
      for (Mode weaker : kAllModes) {
        if (implies(a, weaker) && implies(b, weaker)) CHECK(implies(both, weaker));
      }
    }
  }
}

TEST_CASE("the value block is written by who excluded other writers, read by who gains") {
  for (Mode to : kAllModes)
    CHECK(value_transfer({}, to) == ValueTransfer::read);
  for (Mode from : kAllModes) {
    const bool sole_writer = from == Mode::protected_write || from == Mode::exclusive;
    CHECK((value_transfer(from, {}) == ValueTransfer::write) == sole_writer);
    for (Mode to : kAllModes) {
      INFO(name(from) << " to " << name(to));
      const ValueTransfer transfer = value_transfer(from, to);
      CHECK((transfer == ValueTransfer::write) == (sole_writer && to <= from));
      CHECK((transfer == ValueTransfer::read) == (to > from || (!sole_writer && to == from)));
    }
  }
}
