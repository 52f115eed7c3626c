#include "base/log.h"

#include <vector>

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>

namespace corral {

namespace {
spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}
}  // namespace

struct SystemLogSink::Impl {
  std::string program;
  std::unique_ptr<spdlog::logger> logger;
};

SystemLogSink::SystemLogSink(std::string program, LogLevel lowest, bool to_stderr, bool to_syslog)
    : impl_(std::make_unique<Impl>()), lowest_(lowest) {
  impl_->program = std::move(program);
  std::vector<spdlog::sink_ptr> sinks;
  if (to_stderr) {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
    sink->set_pattern("%n: %v");
    sinks.push_back(std::move(sink));
  }
  if (to_syslog) sinks.push_back(std::make_shared<spdlog::sinks::syslog_sink_st>(impl_->program, 0, LOG_DAEMON, false));
  impl_->logger = std::make_unique<spdlog::logger>(impl_->program, sinks.begin(), sinks.end());
  impl_->logger->set_level(to_spdlog(lowest));
  impl_->logger->flush_on(spdlog::level::debug);
}

SystemLogSink::~SystemLogSink() = default;

void SystemLogSink::write(LogLevel level, std::string_view line) {
  impl_->logger->log(to_spdlog(level), "{}", line);
}

}  // namespace corral
