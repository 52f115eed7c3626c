#include "tools/doctor/finding.h"

#include <algorithm>
#include <array>

namespace corral::doctor {

namespace {
constexpr std::array<std::string_view, 4> kNames{"good", "note", "warning", "problem"};
}  // namespace

std::string_view name_of(Severity severity) {
  return kNames.at(static_cast<std::size_t>(severity));
}

Severity Findings::worst() const {
  Severity worst = Severity::good;
  for (const Finding& finding : all_)
    worst = std::max(worst, finding.severity);
  return worst;
}

void to_json(nlohmann::json& json, const Finding& finding) {
  json = {{"check", finding.check},
          {"severity", name_of(finding.severity)},
          {"found", finding.found},
          {"advice", finding.advice}};
}

void from_json(const nlohmann::json& json, Finding& finding) {
  const auto name = std::ranges::find(kNames, json.at("severity").get<std::string>());
  finding = {.check = json.at("check"),
             .severity = static_cast<Severity>(std::min<std::ptrdiff_t>(name - kNames.begin(), 3)),
             .found = json.at("found"),
             .advice = json.at("advice")};
}

}  // namespace corral::doctor
