#include "node/recovery_report.h"

#include <nlohmann/json.hpp>

namespace corral {

namespace {
using Json = nlohmann::ordered_json;

std::int64_t milliseconds(Duration duration) {
  return duration / std::chrono::milliseconds(1);
}

/// The phase between two moments, if both are known.
void add_phase(Json& phases, const char* name, std::optional<Time> begin, std::optional<Time> end) {
  if (begin && end) phases[name] = milliseconds(*end - *begin);
}

Json begin_event(const std::string& event, Member about, const std::string& name, const std::string& by) {
  Json json;
  json["event"] = event;
  json["id"] = recovery_id(about);
  json["node"] = name;
  json["journal"] = about.node.value;
  json["by"] = by;
  return json;
}
}  // namespace

void RecoveryReport::note(const ReplayReport& replay, Time now) {
  replayed = now;
  blocks_found = static_cast<std::uint32_t>(replay.plan.blocks.size());
  blocks_replayed = static_cast<std::uint32_t>(replay.plan.replayed_blocks);
  revokes = static_cast<std::uint32_t>(replay.plan.revokes);
}

std::string recovery_id(Member dead) {
  return fmt::format("{}-{:x}", dead.node.value, dead.incarnation.value);
}

std::string describe_recovery(const RecoveryReport& report, Member dead, const std::string& by, Time released) {
  Json json = begin_event("recovered", dead, report.name, by);
  Json phases = Json::object();
  std::optional<Time> fenced;
  if (report.fencing) {
    add_phase(phases, "suspicion", report.fencing->last_heard, report.fencing->suspected);
    add_phase(phases, "decision", report.fencing->suspected, report.fencing->decided);
    add_phase(phases, "fence", report.fencing->decided, report.fencing->fenced);
    fenced = report.fencing->fenced;
  }
  add_phase(phases, "verify", fenced, report.left_out);
  add_phase(phases, "lock_recovery", report.left_out, report.locks_running);
  add_phase(phases, "replay", report.locks_running, report.replayed);
  add_phase(phases, "release", report.replayed, released);
  json["phases_ms"] = std::move(phases);
  if (report.replayed) {
    json["blocks_found"] = report.blocks_found;
    json["blocks_replayed"] = report.blocks_replayed;
    json["revokes"] = report.revokes;
  }
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string describe_event(const std::string& event, Member about, const std::string& name, const std::string& by,
                           const std::string& detail) {
  Json json = begin_event(event, about, name, by);
  if (!detail.empty()) json["detail"] = detail;
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace corral
