#include "cluster/settings.h"

#include <algorithm>
#include <array>

#include "base/parse_number.h"

namespace corral::cluster {

namespace {

constexpr std::string_view kLastManStanding = "last-man-standing";
constexpr std::string_view kMajority = "majority";
constexpr std::string_view kScsiPr = "scsi-pr";
constexpr std::string_view kManual = "manual";
constexpr std::string_view kAgent = "agent:";

Result<std::uint32_t> parse_milliseconds(std::string_view name, std::string_view text) {
  std::uint32_t unit_ms = 1000;
  std::string_view digits = text;
  if (digits.ends_with("ms")) {
    unit_ms = 1;
    digits.remove_suffix(2);
  } else if (digits.ends_with('s')) {
    digits.remove_suffix(1);
  }
  const auto number = parse_number<std::uint32_t>(digits);
  if (!number || *number > kMostFailureTimeoutMs)
    return fail(EINVAL, "{} '{}': must be a time such as 5s or 1500ms", name, text);
  return *number * unit_ms;
}

std::string describe_milliseconds(std::uint32_t ms) {
  return ms % 1000 == 0 ? fmt::format("{}s", ms / 1000) : fmt::format("{}ms", ms);
}

std::string describe_fence(const Settings& settings) {
  switch (settings.fence) {
    case FencePolicy::scsi_pr:
      break;
    case FencePolicy::agent:
      return std::string(kAgent) + settings.fence_agent;
    case FencePolicy::manual:
      return std::string(kManual);
  }
  return std::string(kScsiPr);
}

Result<> set_fence(Settings& settings, std::string_view value) {
  settings.fence_agent.clear();
  if (value == kScsiPr) {
    settings.fence = FencePolicy::scsi_pr;
  } else if (value == kManual) {
    settings.fence = FencePolicy::manual;
  } else if (value.starts_with(kAgent)) {
    settings.fence = FencePolicy::agent;
    settings.fence_agent = value.substr(kAgent.size());
    if (!is_valid_agent_name(settings.fence_agent))
      return fail(EINVAL,
                  "fence '{}': a fence agent is the name of a program in the system's folders for programs, such as "
                  "agent:fence_ipmilan",
                  value);
  } else {
    return fail(EINVAL, "fence '{}': must be {}, {} or {}NAME", value, kScsiPr, kManual, kAgent);
  }
  return {};
}

/// What the options must not say is what would turn another host off than the one that is meant, and what nobody but
/// the device's owner should read.
Result<> check_agent_option(std::string_view option) {
  constexpr std::array<std::string_view, 2> kSecret{"passwd", "password"};
  const std::size_t equals = option.find('=');
  const std::string_view key = option.substr(0, equals);
  if (equals == std::string_view::npos || key.empty())
    return fail(EINVAL, "fence-agent-options: '{}': must be key=value", option);
  if (key == "action") return fail(EINVAL, "fence-agent-options: 'action' is not for them to say");
  if (std::ranges::find(kNodeOptions, key) != kNodeOptions.end() && !option.contains(kNodePlaceholder))
    return fail(EINVAL,
                "fence-agent-options: '{}': must contain {}, or every node's fencing would turn the same one off",
                option, kNodePlaceholder);
  if (std::ranges::find(kSecret, key) != kSecret.end())
    return fail(EINVAL,
                "fence-agent-options: '{}' would stand readable on the volume: give passwd_script=PROGRAM, which says "
                "the password",
                key);
  return {};
}

}  // namespace

std::vector<std::string_view> agent_options(std::string_view options) {
  std::vector<std::string_view> words;
  for (;;) {
    options.remove_prefix(std::min(options.find_first_not_of(' '), options.size()));
    if (options.empty()) return words;
    const std::size_t end = std::min(options.find(' '), options.size());
    words.push_back(options.substr(0, end));
    options.remove_prefix(end);
  }
}

std::vector<std::pair<std::string, std::string>> describe_settings(const Settings& settings) {
  const bool majority = settings.quorum == QuorumPolicy::majority;
  return {{"failure-timeout", describe_milliseconds(settings.failure_timeout_ms)},
          {"quorum", std::string(majority ? kMajority : kLastManStanding)},
          {"port", fmt::format("{}", settings.port)},
          {"fence", describe_fence(settings)},
          {"fence-agent-options", settings.fence_agent_options}};
}

Result<Settings> with_setting(Settings settings, std::string_view name, std::string_view value) {
  if (name == "failure-timeout") {
    TRY(settings.failure_timeout_ms, parse_milliseconds(name, value));
  } else if (name == "quorum") {
    if (value != kLastManStanding && value != kMajority)
      return fail(EINVAL, "quorum '{}': must be {} or {}", value, kLastManStanding, kMajority);
    settings.quorum = value == kMajority ? QuorumPolicy::majority : QuorumPolicy::last_man_standing;
  } else if (name == "port") {
    const auto port = parse_number<std::uint16_t>(value);
    if (!port || *port == 0) return fail(EINVAL, "port '{}': must be 1 to 65535", value);
    settings.port = *port;
  } else if (name == "fence") {
    TRY_VOID(set_fence(settings, value));
  } else if (name == "fence-agent-options") {
    for (const std::string_view option : agent_options(value))
      TRY_VOID(check_agent_option(option));
    settings.fence_agent_options = value;
  } else {
    return fail(EINVAL,
                "setting '{}' is not known: there are failure-timeout, quorum, port, fence and fence-agent-options",
                name);
  }
  TRY_VOID(check_settings(settings));
  return settings;
}

}  // namespace corral::cluster
