/// A mount from its beginning to its end, in this process: mounts the volume, serves the kernel, and unmounts the
/// volume when the kernel lets go or a signal asks for it.
///
/// A node of a cluster that was fenced, removed, or whose disk failed it has lost the life that it had: what it holds
/// is dropped, the kernel's caches included, and what applications have open gives EIO. Then it comes back by itself as
/// a new incarnation, under the same mount in the kernel; while the disk or the cluster refuses it, it tries again
/// every few seconds (fuse/rejoin_pace.h). With -o norejoin, or where the volume itself is damaged, it stays as it is
/// until it is unmounted.
///
/// Signals, once the mount is usable: SIGTERM and SIGINT unmount (files that are still open get errors from then on),
/// SIGUSR1 writes the counters to the log, SIGHUP is ignored. Before, they end the process; the volume is replayed at
/// the next mount. A usable mount answers questions about itself on its control socket (control/control_socket.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/log.h"
#include "base/result.h"
#include "base/sync.h"
#include "control/control_socket.h"
#include "control/metrics_endpoint.h"
#include "disk/event_loop.h"
#include "disk/helper_threads.h"
#include "fuse/event_hooks.h"
#include "fuse/front.h"
#include "fuse/kernel_mount.h"
#include "fuse/mount_arguments.h"
#include "fuse/mount_commands.h"
#include "fuse/mount_life.h"
#include "fuse/mount_report.h"
#include "fuse/rejoin_pace.h"

namespace corral {

class MountService {
 public:
  /// Makes its event loop: after any fork.
  MountService(MountArguments arguments, LogSink& log);
  ~MountService();

  /// Returns when the mount is over. `ready` is called once, when it is usable. Errors: why it could not be mounted, or
  /// what could not be written at the end.
  Result<> run(std::function<void()> ready);

 private:
  Task<Result<>> serve(std::function<void()> ready);
  Task<Result<>> mount_volume();
  Task<Result<>> mount_in_kernel();
  Task<Result<>> unmount_volume();
  std::unique_ptr<MountLife> new_life();
  Task<void> replace_lost_lives();
  Task<void> pause(Duration time);
  Task<void> rejoin();
  Result<> check_same_volume() const;
  Result<> watch_signals();
  void open_control_socket();
  void open_metrics_endpoint();
  void tell_of_life();
  Task<void> silence_life();
  Task<Result<nlohmann::json>> answer(nlohmann::json request, std::stop_token stop);
  Task<void> leave();

  MountArguments arguments_;
  LogSink& sink_;
  Logger log_;
  EventLoop loop_;
  HelperThreads helpers_;
  EventHooks hooks_;
  bool clustered_ = false;
  std::unique_ptr<MountLife> life_;
  std::unique_ptr<Front> front_;
  std::optional<ondisk::SuperblockInfo> volume_;  ///< as it was in the first life
  KernelMount kernel_mount_;
  std::unique_ptr<MountReport> report_;      ///< of the life that serves
  std::unique_ptr<MountCommands> commands_;  ///< of that life, until its last command has ended
  std::unique_ptr<ControlSocket> control_;
  std::unique_ptr<MetricsEndpoint> metrics_;
  std::unique_ptr<EventLoop::Watch> signals_;
  bool leaving_ = false;
  Scope leave_;
  bool ending_ = false;  ///< the kernel has let go: no life comes any more
  Signal changed_;       ///< a life was lost, or the mount ends
  RejoinPace pace_;
  Time serves_since_{};  ///< the life that serves, or was lost
  Scope lives_;
};

}  // namespace corral
