#include "cluster/settings.h"

#include "base/parse_number.h"

namespace corral::cluster {

namespace {

constexpr std::string_view kLastManStanding = "last-man-standing";
constexpr std::string_view kMajority = "majority";

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

}  // namespace

std::vector<std::pair<std::string, std::string>> describe_settings(const Settings& settings) {
  const bool majority = settings.quorum == QuorumPolicy::majority;
  return {{"failure-timeout", describe_milliseconds(settings.failure_timeout_ms)},
          {"quorum", std::string(majority ? kMajority : kLastManStanding)},
          {"port", fmt::format("{}", settings.port)}};
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
  } else {
    return fail(EINVAL, "setting '{}' is not known: there are failure-timeout, quorum and port", name);
  }
  TRY_VOID(check_settings(settings));
  return settings;
}

}  // namespace corral::cluster
