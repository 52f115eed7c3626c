#include "tools/corral/volume_commands.h"

#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cluster/area.h"
#include "cluster/settings.h"
#include "cluster/sole_use.h"
#include "disk/event_loop.h"
#include "disk/open_device.h"
#include "tools/adopt/adopt.h"
#include "tools/mkfs/new_cluster.h"

namespace corral {

namespace {

constexpr int kFailed = 8;

int report(const std::string& device, const Result<>& result) {
  if (result) return 0;
  const std::string words = result.error().describe();
  fmt::print(stderr, "corral: {}{}\n", words.starts_with(device) ? "" : device + ": ", words);
  return kFailed;
}

/// Opens the device (one that is wanted exclusively, after no node was found alive on it), runs the task that `work`
/// makes of it, and closes it.
template <class Work>
Result<> with_device(const std::string& name, StorageOptions options, Work work) {
  EventLoop loop;
  TRY(auto device, loop.run_until_done(options.exclusive ? cluster::open_for_sole_use(loop, name, options)
                                                         : open_device(loop, name, options)));
  Result<> result = loop.run_until_done(work(loop, *device));
  loop.run_until_done(device->close());
  return result;
}

Task<Result<>> print_settings(Device& device, std::string name, bool json) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  CO_TRY(cluster::ClusterArea area, co_await cluster::ClusterArea::find(volume));
  CO_TRY(cluster::Header header, co_await area.read_header());
  nlohmann::ordered_json shown;
  for (const auto& [key, value] : cluster::describe_settings(header.settings)) {
    if (!name.empty() && key != name) continue;
    shown[key] = value;
    if (!json) fmt::print("{}\n", name.empty() ? fmt::format("{} = {}", key, value) : value);
  }
  if (json && !shown.empty()) fmt::print("{}\n", shown.dump(2));
  if (shown.empty()) co_return fail(EINVAL, "setting '{}' is not known", name);
  co_return Result<>{};
}

/// Who died while nodes were fenced in one way cannot be fenced in another: it has no key, or no lock, that would tell
/// whether it still writes.
Task<Result<>> check_all_recovered(cluster::ClusterArea area) {
  CO_TRY(const std::vector<cluster::FoundSlot> slots, co_await area.read_slots(cluster::kSlots));
  for (const cluster::FoundSlot& found : slots) {
    if (!found.slot || found.slot->state == cluster::SlotState::free) continue;
    co_return fail(EBUSY,
                   "node {} (slot {}) has not left and is not recovered yet, and can be fenced only in the way that is "
                   "set now: mount the volume on a node, which recovers it, unmount it, and set this again",
                   found.slot->name, found.slot->id.value);
  }
  co_return Result<>{};
}

Task<Result<>> change_setting(Device& device, std::string name, std::string value) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  CO_TRY(cluster::ClusterArea area, co_await cluster::ClusterArea::find(volume));
  CO_TRY(cluster::Header header, co_await area.read_header());
  const cluster::Settings before = header.settings;
  CO_TRY(header.settings, cluster::with_setting(header.settings, name, value));
  if (header.settings.fence != before.fence) CO_TRY_VOID(co_await check_all_recovered(area));
  CO_TRY_VOID(co_await area.write_header(header));
  co_return Result<>{};
}

}  // namespace

AdoptCommand::AdoptCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("adopt", "Take a GFS2 volume, unmounted everywhere, into Corral's care");
  command->add_option("device", device_, "Block device, image file or iscsi://host[:port]/target/lun")->required();
  command->add_option("-t,--lock-table", lock_table_, "CLUSTER:NAME (default: the volume's own)");
  command->callback([this, &status] { status = run(); });
}

int AdoptCommand::run() const {
  SystemLogSink sink("corral", LogLevel::warning, true, false);
  return report(device_, with_device(device_, {}, [&](EventLoop& loop, Device& device) {
                  return adopt_volume({loop.executor(), device, loop.clock().wall(), Logger(sink)}, mkfs::new_cluster(),
                                      lock_table_);
                }));
}

ReleaseCommand::ReleaseCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("release", "Give a volume, unmounted everywhere, back to the kernel's GFS2");
  command->add_option("device", device_, "Block device, image file or iscsi://host[:port]/target/lun")->required();
  command->add_option("-p,--lock-protocol", protocol_, "lock_dlm or lock_nolock")
      ->capture_default_str()
      ->check(CLI::IsMember({"lock_dlm", "lock_nolock"}));
  command->callback([this, &status] { status = run(); });
}

int ReleaseCommand::run() const {
  SystemLogSink sink("corral", LogLevel::warning, true, false);
  return report(device_, with_device(device_, {}, [&](EventLoop& loop, Device& device) {
                  return release_volume({loop.executor(), device, loop.clock().wall(), Logger(sink)}, protocol_);
                }));
}

ConfigCommand::ConfigCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("config", "Show or change the cluster's settings");
  command->require_subcommand(1);
  CLI::App* get_command = command->add_subcommand("get", "Show all settings, or the value of one");
  get_command->add_option("device", device_, "Block device, image file or iscsi://host[:port]/target/lun")->required();
  get_command->add_option("name", name_, "Setting");
  get_command->add_flag("--json", json_, "Report as JSON");
  get_command->callback([this, &status] { status = get(); });
  CLI::App* set_command = command->add_subcommand("set", "Change one setting of a volume that is unmounted everywhere");
  set_command->add_option("device", device_, "Block device, image file or iscsi://host[:port]/target/lun")->required();
  set_command->add_option("name", name_, "Setting")->required();
  set_command->add_option("value", value_, "Its new value")->required();
  set_command->callback([this, &status] { status = set(); });
}

// The settings may be looked at while nodes have the volume mounted, but not changed: nodes with different ones would
// not agree on who is dead.

int ConfigCommand::get() const {
  return report(device_, with_device(device_, {.read_only = true, .exclusive = false},
                                     [&](EventLoop&, Device& device) { return print_settings(device, name_, json_); }));
}

int ConfigCommand::set() const {
  return report(device_, with_device(device_, {}, [&](EventLoop&, Device& device) {
                  return change_setting(device, name_, value_);
                }));
}

}  // namespace corral
