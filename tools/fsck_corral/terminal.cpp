#include "tools/fsck_corral/terminal.h"

#include <algorithm>
#include <cstdio>
#include <iostream>

#include <fmt/format.h>

namespace corral {

namespace {
constexpr Duration kRefresh = std::chrono::milliseconds(100);
constexpr std::size_t kBarWidth = 20;
}  // namespace

void ProgressBar::update(std::string_view phase, std::uint64_t done, std::uint64_t total) {
  if (!shown_) return;
  const Time now = clock_.now();
  if (phase != phase_) {
    phase_ = phase;
    phase_began_ = now;
    last_shown_ = {};
  }
  if (now - last_shown_ < kRefresh) return;
  last_shown_ = now;
  const double seconds = std::chrono::duration<double>(now - phase_began_).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string line = fmt::format("{:<18}", phase);
  if (total > 0) {
    const double part = static_cast<double>(done) / static_cast<double>(total);
    const auto filled = std::min(kBarWidth, static_cast<std::size_t>(part * kBarWidth));
    line += fmt::format("[{:<{}}] {:3.0f} %", std::string(filled, '='), kBarWidth, part * 100);
  }
  if (rate > 0) line += fmt::format("  {:.0f}/s", rate);
  if (rate > 0 && total > done) line += fmt::format("  {:.0f} s left", static_cast<double>(total - done) / rate);
  fmt::print(stderr, "\r{:<78}", line);
  std::fflush(stderr);
  visible_ = true;
}

void ProgressBar::clear() {
  if (!visible_) return;
  fmt::print(stderr, "\r{:<78}\r", "");
  std::fflush(stderr);
  visible_ = false;
}

fsck::Outcome Questions::ask(const fsck::Finding& finding) {
  fmt::print("{}\n", finding.problem);
  for (;;) {
    if (always_ == Always::yes) return fsck::Outcome::repaired;
    if (always_ == Always::no) return fsck::Outcome::declined;
    fmt::print("  {}? [y]es, [n]o, yes to [a]ll, no to all that [r]est: ", finding.repair);
    std::fflush(stdout);
    std::string answer;
    // With nobody there to answer, nothing is repaired.
    if (!std::getline(std::cin, answer) || answer == "r") always_ = Always::no;
    if (answer == "a") always_ = Always::yes;
    if (answer == "y" || answer == "yes") return fsck::Outcome::repaired;
    if (answer == "n" || answer == "no") return fsck::Outcome::declined;
  }
}

}  // namespace corral
