/// Messages for operators: one event, one line. The core writes to a LogSink that it is given; no globals.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace corral {

enum class LogLevel { debug, info, warning, error };

/// Where log lines go. Lives longer than every Logger that names it.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual bool enabled(LogLevel level) const = 0;
  virtual void write(LogLevel level, std::string_view line) = 0;
};

/// A sink with the prefix of whoever speaks, e.g. "fsid=my-cluster:storage.0: ".
class Logger {
 public:
  explicit Logger(LogSink& sink, std::string prefix = {}) : sink_(&sink), prefix_(std::move(prefix)) {}

  /// The same sink with `more` added to the prefix.
  Logger with(std::string_view more) const { return Logger(*sink_, prefix_ + std::string(more)); }

  template <class... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::debug, format, std::forward<Args>(args)...);
  }
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::info, format, std::forward<Args>(args)...);
  }
  template <class... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::warning, format, std::forward<Args>(args)...);
  }
  template <class... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::error, format, std::forward<Args>(args)...);
  }

 private:
  template <class... Args>
  void write(LogLevel level, fmt::format_string<Args...> format, Args&&... args) const {
    if (sink_->enabled(level)) sink_->write(level, prefix_ + fmt::format(format, std::forward<Args>(args)...));
  }

  LogSink* sink_;
  std::string prefix_;
};

/// Production sink: stderr and, for a daemon, syslog; through spdlog.
class SystemLogSink final : public LogSink {
 public:
  /// `program` names the lines' sender; with `to_syslog` they also go to syslog, with `to_stderr` to stderr.
  SystemLogSink(std::string program, LogLevel lowest, bool to_stderr, bool to_syslog);
  ~SystemLogSink() override;
  bool enabled(LogLevel level) const override { return level >= lowest_; }
  void write(LogLevel level, std::string_view line) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  LogLevel lowest_;
};

/// Drops everything; for tools that print results themselves and for tests.
class NullLogSink final : public LogSink {
 public:
  bool enabled(LogLevel) const override { return false; }
  void write(LogLevel, std::string_view) override {}
};

}  // namespace corral
