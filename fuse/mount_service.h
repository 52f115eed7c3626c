/// A mount from its beginning to its end, in this process: opens the device, mounts the volume, serves the kernel, and
/// unmounts the volume when the kernel lets go or a signal asks for it.
///
/// Signals, once the mount is usable: SIGTERM and SIGINT unmount (files that are still open get errors from then on),
/// SIGUSR1 writes the counters to the log, SIGHUP is ignored. Before, they end the process; the volume is replayed at
/// the next mount. A usable mount answers questions about itself on its control socket (control/control_socket.h).
#pragma once

#include <functional>
#include <memory>

#include "base/log.h"
#include "base/result.h"
#include "base/sync.h"
#include "control/control_socket.h"
#include "control/metrics_endpoint.h"
#include "disk/event_loop.h"
#include "disk/helper_threads.h"
#include "disk/storage_device.h"
#include "fuse/front.h"
#include "fuse/kernel_mount.h"
#include "fuse/mount_arguments.h"
#include "fuse/mount_report.h"
#include "node/cluster_mount.h"

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
  Task<Result<std::string>> lock_protocol();
  Task<Result<>> mount_volume();
  Task<Result<>> join_and_mount(bool clustered);
  Task<void> close_volume();
  Task<Result<>> mount_in_kernel();
  Task<Result<>> unmount_volume();
  Result<> watch_signals();
  void open_control_socket();
  void open_metrics_endpoint();
  Task<void> leave();

  MountArguments arguments_;
  LogSink& sink_;
  Logger log_;
  EventLoop loop_;
  HelperThreads helpers_;
  std::unique_ptr<StorageDevice> device_;
  std::unique_ptr<ClusterMount> cluster_;  ///< where the volume is a cluster's
  std::unique_ptr<Filesystem> filesystem_;
  std::unique_ptr<Front> front_;
  KernelMount kernel_mount_;
  std::unique_ptr<MountReport> report_;
  std::unique_ptr<ControlSocket> control_;
  std::unique_ptr<MetricsEndpoint> metrics_;
  std::unique_ptr<EventLoop::Watch> signals_;
  bool leaving_ = false;
  Scope leave_;
};

}  // namespace corral
