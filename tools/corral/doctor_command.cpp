#include "tools/corral/doctor_command.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "disk/open_device.h"
#include "fuse/event_hooks.h"
#include "tools/corral/mounts.h"
#include "tools/corral/watched_volume.h"
#include "tools/doctor/block_device_checks.h"
#include "tools/doctor/bounded.h"
#include "tools/doctor/disk_checks.h"
#include "tools/doctor/host_checks.h"
#include "tools/doctor/network_checks.h"

namespace corral {

namespace {

using doctor::ClusterFacts;
using doctor::Findings;
using doctor::Peer;
using doctor::Severity;
using nlohmann::json;

constexpr int kWarnings = 1;
constexpr int kProblems = 3;
constexpr Duration kLimit = std::chrono::seconds(20);
constexpr Duration kConnectLimit = std::chrono::seconds(3);

/// Checks of one kind in a process of their own; what they gave besides findings.
template <class Work>
json bounded(const std::string& what, Duration limit, Findings& findings, Work work) {
  const auto answer = doctor::run_bounded(limit, [&work] {
    Findings found;
    json rest = work(found);
    return json{{"findings", found.all()}, {"rest", std::move(rest)}};
  });
  if (!answer) {
    findings.problem(what, fmt::format("no answer within {} s", limit / std::chrono::seconds(1)),
                     "see the kernel's log, the storage and the network");
    return {};
  }
  for (const json& one : answer->at("findings"))
    findings.add(one.get<doctor::Finding>());
  return answer->at("rest");
}

void check_host(Findings& findings) {
  doctor::HostFolders folders;
  folders.hooks = EventHooks::kFolder;
  doctor::check_kernel(folders, findings);
  doctor::check_fuse(folders, findings);
  doctor::check_helper(folders, findings);
  doctor::check_io_uring(folders, findings);
  doctor::check_clock(findings);
  doctor::check_host_name(findings);
  doctor::check_hooks(folders, findings);
  doctor::check_addresses(findings);
}

void check_kind_of_device(const std::string& device, Findings& findings) {
  struct stat status{};
  if (names_path(device) && stat(device.c_str(), &status) == 0 && S_ISBLK(status.st_mode))
    doctor::check_block_device("/sys", major(status.st_rdev), minor(status.st_rdev), findings);
}

/// Reading slots and connecting; what takes as long as the cluster's failure timeout says.
void check_cluster(const std::string& device, const ClusterFacts& facts, Findings& findings) {
  const auto mounts = corral_mounts();
  doctor::check_port(facts.port, mounts && !mounts->empty(), findings);
  std::vector<Peer> living;
  if (!facts.occupied.empty()) {
    const Duration limit = kLimit + 2 * std::chrono::milliseconds(facts.failure_timeout_ms);
    const json found = bounded("members", limit, findings,
                               [&](Findings& inner) { return json(doctor::check_members(device, inner)); });
    if (found.is_array()) living = found.get<std::vector<Peer>>();
  }
  doctor::check_peers(living, kConnectLimit, findings);
}

Findings examine(const std::string& device) {
  Findings findings;
  bounded("host", kLimit, findings, [](Findings& inner) {
    check_host(inner);
    return json();
  });
  bounded("device", kLimit, findings, [&](Findings& inner) {
    check_kind_of_device(device, inner);
    return json();
  });
  const json facts = bounded("device", kLimit, findings, [&](Findings& inner) {
    const std::optional<ClusterFacts> found = doctor::check_disk(device, inner);
    return found ? json(*found) : json();
  });
  const bool opened = std::ranges::none_of(findings.all(), [](const doctor::Finding& finding) {
    return finding.check == "device" && finding.severity == Severity::problem;
  });
  if (!opened) return findings;
  bounded("reservations", kLimit, findings, [&](Findings& inner) {
    doctor::check_reservations(device, inner);
    return json();
  });
  if (facts.is_object()) check_cluster(device, facts.get<ClusterFacts>(), findings);
  return findings;
}

void print(const Findings& findings, bool quiet) {
  for (const doctor::Finding& finding : findings.all()) {
    if (quiet && finding.severity < Severity::warning) continue;
    fmt::print("{:<8} {:<13} {}\n", name_of(finding.severity), finding.check, finding.found);
    if (!finding.advice.empty()) fmt::print("{:<8} {:<13}   -> {}\n", "", "", finding.advice);
  }
}

int exit_code(Severity worst) {
  if (worst == Severity::problem) return kProblems;
  return worst == Severity::warning ? kWarnings : 0;
}

}  // namespace

DoctorCommand::DoctorCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("doctor", "Check host, disk and network for what makes a node fail later");
  command->add_option("target", target_, "Device, as for mount.corral, or mount point")->required();
  command->add_flag("-q,--quiet", quiet_, "Only warnings and problems");
  command->add_flag("--json", json_, "Report as JSON");
  command->callback([this, &status] { status = run(); });
}

int DoctorCommand::run() const {
  const std::string device = device_behind(target_);
  const Findings findings = examine(device);
  if (json_) {
    const json report = {{"device", device}, {"worst", name_of(findings.worst())}, {"findings", findings.all()}};
    fmt::print("{}\n", report.dump(2, ' ', false, json::error_handler_t::replace));
  } else {
    print(findings, quiet_);
  }
  return exit_code(findings.worst());
}

}  // namespace corral
