#include "tools/corral/tune_command.h"

#include <cstdio>

#include <fmt/format.h>
#include <uuid/uuid.h>

#include "cluster/sole_use.h"
#include "disk/event_loop.h"
#include "tools/mkfs/options.h"

namespace corral {

namespace {

constexpr int kUsage = 2;
constexpr int kFailed = 8;

/// A volume in our care is given another protocol by adopt and release alone, which add and remove the cluster area.
Task<Result<>> tune(Device& device, SuperblockChange change) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  const std::string& present = volume.superblock().lock_protocol;
  if (change.lock_protocol && present == mkfs::kLockCorral)
    co_return fail(EINVAL, "{}: the volume is in Corral's care: corral release gives it another lock protocol",
                   device.name());
  mkfs::FormatOptions resulting;
  resulting.lock_protocol = change.lock_protocol.value_or(present);
  resulting.lock_table = change.lock_table.value_or(volume.superblock().lock_table);
  if (auto checked = mkfs::check_options(resulting); !checked) co_return std::unexpected(checked.error());
  co_return co_await change_superblock(volume, std::move(change));
}

}  // namespace

TuneCommand::TuneCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("tune", "Change the name, UUID or lock protocol of an unmounted volume");
  command->add_option("device", device_, "Block device, image file or iscsi://host[:port]/target/lun")->required();
  command->add_option("-t,--lock-table", lock_table_, "CLUSTER:NAME");
  command->add_option("-U,--uuid", uuid_, "UUID of the volume, or \"random\"");
  command->add_option("-p,--lock-protocol", protocol_, "lock_dlm or lock_nolock")
      ->check(CLI::IsMember({"lock_dlm", "lock_nolock"}));
  command->callback([this, &status] { status = run(); });
}

Result<SuperblockChange> TuneCommand::wanted() const {
  SuperblockChange change;
  if (!lock_table_.empty()) change.lock_table = lock_table_;
  if (!protocol_.empty()) change.lock_protocol = protocol_;
  if (uuid_.empty()) return change;
  uuid_t uuid;
  if (uuid_ == "random") {
    uuid_generate(uuid);
  } else if (uuid_parse(uuid_.c_str(), uuid) != 0) {
    return fail(EINVAL, "'{}' is no UUID", uuid_);
  }
  change.uuid.emplace();
  std::copy_n(uuid, change.uuid->size(), change.uuid->begin());
  return change;
}

int TuneCommand::run() const {
  auto change = wanted();
  if (change && !change->lock_protocol && !change->lock_table && !change->uuid)
    change = fail(EINVAL, "nothing to change: give -t, -U or -p");
  if (!change) {
    fmt::print(stderr, "corral: {}\n", change.error().describe());
    return kUsage;
  }
  EventLoop loop;
  auto device = loop.run_until_done(cluster::open_for_sole_use(loop, device_, {}));
  Result<> done;
  if (device) {
    done = loop.run_until_done(tune(**device, *std::move(change)));
    loop.run_until_done((*device)->close());
  } else {
    done = std::unexpected(device.error());
  }
  if (done) return 0;
  fmt::print(stderr, "corral: {}\n", done.error().describe());
  return kFailed;
}

}  // namespace corral
