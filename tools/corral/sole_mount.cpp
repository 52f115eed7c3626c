#include "tools/corral/sole_mount.h"

#include <csignal>

#include "base/log.h"
#include "base/system_random.h"
#include "cluster/sole_use.h"
#include "fuse/mount_commands.h"
#include "tools/corral/mounts.h"

namespace corral {

namespace {

Task<Result<>> work_mounted(Filesystem::Environment environment, MountOptions options, const SoleVolume::Work& work) {
  CO_TRY(std::unique_ptr<Filesystem> filesystem, co_await Filesystem::mount(environment, std::move(options)));
  Result<> worked = co_await work(*filesystem);
  Result<> unmounted = co_await filesystem->unmount();
  if (!worked) co_return worked;
  co_return unmounted;
}

Task<Result<>> command_into(Filesystem& filesystem, std::string name, nlohmann::json request, std::stop_token stop,
                            nlohmann::json& answer) {
  MountCommands commands(filesystem, std::move(name));
  CO_TRY(answer, co_await commands.run(std::move(request), std::move(stop)));
  co_return Result<>{};
}

}  // namespace

Result<std::unique_ptr<SoleVolume>> SoleVolume::open(const std::string& name, bool read_only) {
  std::unique_ptr<SoleVolume> volume(new SoleVolume());
  TRY(volume->signals_,
      volume->loop_.watch_signals({SIGINT, SIGTERM}, [stop = &volume->stop_](int) { stop->request_stop(); }));
  TRY(volume->device_,
      volume->loop_.run_until_done(cluster::open_for_sole_use(volume->loop_, name, {.read_only = read_only})));
  return volume;
}

SoleVolume::~SoleVolume() {
  if (device_) loop_.run_until_done(device_->close());
}

Result<> SoleVolume::mounted(MountOptions options, JournalId journal, const Work& work) {
  SystemLogSink log("corral", LogLevel::warning, true, false);
  options.lock_protocol = "lock_nolock";
  return loop_.run_until_done(work_mounted(
      {.executor = loop_.executor(), .device = *device_, .log = log, .random_seed = random_seed(), .journal = journal},
      std::move(options), work));
}

Result<nlohmann::json> command_volume(const std::string& target, const nlohmann::json& request) {
  if (names_mount_point(target)) {
    TRY(const CorralMount mount, mount_at(target));
    return mount.command(request);
  }
  TRY(const auto volume, SoleVolume::open(target, false));
  nlohmann::json answer;
  TRY_VOID(volume->mounted({}, JournalId(0), [&](Filesystem& filesystem) {
    return command_into(filesystem, target, request, volume->stop(), answer);
  }));
  return answer;
}

}  // namespace corral
