/// The story of a simulated run, line by line, and a hash over all of it: equal hashes are equal stories, byte for
/// byte.
///
/// A line never carries an address of memory, nor anything in the order of a hash table: only what the seed decides.
#pragma once

#include <cstdint>
#include <cstdio>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "base/clock.h"

namespace corral::sim {

class Trace {
 public:
  /// The clock outlives it; its time at the making is the run's zero.
  explicit Trace(const Clock& clock) : clock_(clock), begin_(clock.now()) {}

  /// Prints the lines from now on.
  void print_to(std::FILE* out) { out_ = out; }
  /// Since the run's beginning.
  Duration elapsed() const { return clock_.now() - begin_; }

  /// `who` is a node ("b"), or "-" for the world; `kind` says what the line is about ("op", "msg", "disk", "fault",
  /// ...).
  template <class... Args>
  void line(std::string_view who, std::string_view kind, fmt::format_string<Args...> format, Args&&... args) {
    text_.clear();
    const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(elapsed()).count();
    fmt::format_to(std::back_inserter(text_), "{:>12} {:<3} {:<5} ", microseconds, who, kind);
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_.push_back('\n');
    absorb({text_.data(), text_.size()});
  }

  std::uint64_t hash() const { return hash_; }
  std::uint64_t lines() const { return lines_; }

 private:
  void absorb(std::string_view text);

  const Clock& clock_;
  Time begin_;
  std::FILE* out_ = nullptr;
  fmt::memory_buffer text_;
  std::uint64_t hash_ = 0;
  std::uint64_t lines_ = 0;
};

/// A number for the bytes, the same on every machine; for traces and for telling contents apart, not against malice.
std::uint64_t digest(std::string_view bytes, std::uint64_t start = 0);

}  // namespace corral::sim
