/// What fsck.corral says to people, and what it asks them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "fsck/findings.h"

namespace corral {

/// One line at the foot of a terminal: the phase, how far it is, its rate and the time left.
class ProgressBar {
 public:
  /// `shown` false: says nothing.
  ProgressBar(const Clock& clock, bool shown) : clock_(clock), shown_(shown) {}
  ~ProgressBar() { clear(); }

  void update(std::string_view phase, std::uint64_t done, std::uint64_t total);
  /// Takes the line away, for other output.
  void clear();

 private:
  const Clock& clock_;
  bool shown_;
  bool visible_ = false;
  std::string phase_;
  Time phase_began_{};
  Time last_shown_{};
};

/// Asks about each finding on the terminal: yes, no, or the same for all to come.
class Questions {
 public:
  fsck::Outcome ask(const fsck::Finding& finding);

 private:
  enum class Always : std::uint8_t { ask, yes, no };
  Always always_ = Always::ask;
};

}  // namespace corral
