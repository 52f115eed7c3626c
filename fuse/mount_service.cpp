#include "fuse/mount_service.h"

#include <csignal>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/mount.h>
#include <sys/random.h>

#include "disk/open_device.h"
#include "fuse/caller_groups.h"
#include "fuse/mount_metrics.h"

namespace corral {

namespace {
/// Umount and mount block on requests that the loop serves; one of each at a time is enough.
constexpr std::size_t kHelperThreads = 2;
/// A sequential reader keeps this much under way, in requests of Front::kMaxTransferBytes.
constexpr std::uint64_t kReadAheadBytes = 4 << 20;
/// Lock protocol of volumes whose nodes are Corral mounts; every other one is somebody else's cluster, or none.
constexpr const char* kClusterProtocol = "lock_corral";

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) return 1;
  return seed;
}

/// A lone CPU is the clients' while this process has nothing to do.
Duration spin_time(const MountArguments& arguments) {
  return std::thread::hardware_concurrency() > 1 ? arguments.spin : Duration::zero();
}
}  // namespace

MountService::MountService(MountArguments arguments, LogSink& log)
    : arguments_(std::move(arguments)),
      sink_(log),
      log_(log),
      loop_(spin_time(arguments_)),
      helpers_(loop_, kHelperThreads),
      leave_(loop_.executor()) {}

MountService::~MountService() = default;

Result<> MountService::run(std::function<void()> ready) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  return loop_.run_until_done(serve(std::move(ready)));
}

Task<Result<>> MountService::serve(std::function<void()> ready) {
  CO_TRY_VOID(co_await mount_volume());
  Result<> mounted = co_await mount_in_kernel();
  if (mounted) {
    open_control_socket();
    open_metrics_endpoint();
    ready();
    co_await front_->ended();
  }
  metrics_.reset();
  control_.reset();
  report_.reset();
  // A signal's unmounting waits in the kernel for what follows.
  Result<> unmounted = co_await unmount_volume();
  if (front_) front_->finish();
  co_await leave_.join();
  signals_.reset();
  front_.reset();
  if (!mounted) co_return mounted;
  co_return unmounted;
}

/// As the options or the superblock say. A first look at the device, which others may be using.
Task<Result<std::string>> MountService::lock_protocol() {
  if (!arguments_.filesystem.lock_protocol.empty()) co_return arguments_.filesystem.lock_protocol;
  StorageOptions options;
  options.read_only = true;
  options.exclusive = false;
  CO_TRY(auto device, co_await open_device(loop_, arguments_.device, options));
  auto volume = co_await VolumeReader::open(*device);
  co_await device->close();
  if (!volume) co_return std::unexpected(volume.error());
  co_return volume->superblock().lock_protocol;
}

Task<Result<>> MountService::mount_volume() {
  CO_TRY(const std::string protocol, co_await lock_protocol());
  const bool clustered = protocol == kClusterProtocol;
  if (clustered && arguments_.filesystem.spectator)
    co_return fail(EINVAL,
                   "{}: option spectator: a volume of a cluster is looked at with -o lockproto=lock_nolock,"
                   "spectator, and only while no node has it mounted",
                   arguments_.device);
  StorageOptions options;
  // A node of a cluster writes its heartbeats, also where the mount is read-only.
  options.read_only = arguments_.filesystem.read_only && !clustered;
  options.shared_file = clustered;
  CO_TRY(device_, co_await open_device(loop_, arguments_.device, options));
  Result<> mounted = co_await join_and_mount(clustered);
  if (!mounted) co_await close_volume();
  co_return mounted;
}

Task<Result<>> MountService::join_and_mount(bool clustered) {
  Filesystem::Environment environment{.executor = loop_.executor(),
                                      .device = *device_,
                                      .log = sink_,
                                      .random_seed = random_seed(),
                                      .in_additional_groups = in_additional_groups};
  if (clustered) {
    CO_TRY(cluster_, co_await ClusterMount::join(loop_, *device_, arguments_.node, sink_, random_seed()));
    ClusterNode& node = cluster_->node();
    environment.lock_space = &node.lock_space();
    environment.journal = node.journal();
    environment.first_mounter = false;
    environment.withdrawn = [&node](const Error& reason) { node.fail(reason); };
    node.on_lost = [this](const Error& reason) {
      if (filesystem_) filesystem_->volume().withdraw(reason);
    };
  }
  CO_TRY(filesystem_, co_await Filesystem::mount(environment, arguments_.filesystem));
  if (cluster_) cluster_->node().set_filesystem(filesystem_.get());
  co_return Result<>{};
}

/// Leaves the cluster, if in order, after the filesystem has let go of everything.
Task<void> MountService::close_volume() {
  filesystem_.reset();
  if (cluster_) co_await cluster_->node().leave();
  cluster_.reset();
  co_await device_->close();
  device_.reset();
}

Task<Result<>> MountService::mount_in_kernel() {
  FileDescriptor channel(open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!channel) co_return fail(errno, "/dev/fuse: {}; is the kernel module fuse loaded?", strerror(errno));
  const int descriptor = channel.get();
  FrontSettings settings;
  // Nodes cannot share a cache of sizes and times that only the kernel knows.
  settings.writeback_cache = arguments_.writeback_cache && !cluster_;
  settings.drop_pages_at_open = arguments_.filesystem.atime == AtimePolicy::strictatime;
  settings.directory_atime = (arguments_.kernel_flags & MS_NODIRATIME) == 0;
  settings.acl = arguments_.filesystem.acl;
  settings.synchronous_names = (arguments_.kernel_flags & (MS_SYNCHRONOUS | MS_DIRSYNC)) != 0;
  front_ = std::make_unique<Front>(loop_, std::move(channel), *filesystem_, settings, log_);
  if (cluster_) front_->set_file_locks(cluster_->node().file_locks());

  device_->release_claim();
  KernelMount::Request request{.source = arguments_.device,
                               .directory = arguments_.directory,
                               .flags = arguments_.kernel_flags,
                               .security_options = arguments_.security_options,
                               .block_size = filesystem_->volume().geometry.block_size()};
  Result<> mounted;
  co_await helpers_.run([&] { mounted = kernel_mount_.mount(descriptor, request, log_); });
  if (!mounted) {
    front_->disconnect();
    co_return mounted;
  }
  Result<> started = front_->start();
  if (started) started = co_await front_->ready();
  if (started) started = watch_signals();
  if (!started) {
    front_->disconnect();
    co_await front_->ended();
    front_->finish();
    co_await helpers_.run([this] { [[maybe_unused]] auto undone = kernel_mount_.unmount(); });
    co_return started;
  }
  co_await helpers_.run([this] { kernel_mount_.set_read_ahead(kReadAheadBytes); });
  co_return Result<>{};
}

Result<> MountService::watch_signals() {
  TRY(signals_, loop_.watch_signals({SIGTERM, SIGINT, SIGUSR1}, [this](int signal) {
    if (signal == SIGUSR1) return log_.info("statistics of {}: {}", arguments_.directory, front_->statistics());
    if (std::exchange(leaving_, true)) return;
    log_.info("{}: unmounting {}", signal == SIGTERM ? "SIGTERM" : "SIGINT", arguments_.directory);
    leave_.spawn(leave());
  }));
  return {};
}

/// A mount that cannot be asked is better than none.
void MountService::open_control_socket() {
  const KernelMount::DeviceNumber number = kernel_mount_.device_number();
  report_ = std::make_unique<MountReport>(MountReport::Parts{.device = arguments_.device,
                                                             .directory = arguments_.directory,
                                                             .filesystem = *filesystem_,
                                                             .front = *front_,
                                                             .node = cluster_ ? &cluster_->node() : nullptr});
  auto socket = ControlSocket::listen(
      loop_, control_socket_path(number.major, number.minor),
      [this](const nlohmann::json& request) { return report_->answer(request); }, log_);
  if (socket) {
    control_ = *std::move(socket);
  } else {
    log_.warning("no control socket: {}; corral status, locks and top cannot ask this mount",
                 socket.error().describe());
  }
}

/// Likewise: the operator's monitoring will notice.
void MountService::open_metrics_endpoint() {
  if (!arguments_.metrics) return;
  auto endpoint = MetricsEndpoint::listen(
      loop_, *arguments_.metrics, [this] { return open_metrics(report_->status(), report_->counters()); }, log_);
  if (endpoint) {
    metrics_ = *std::move(endpoint);
  } else {
    log_.error("{}", endpoint.error().describe());
  }
}

Task<void> MountService::leave() {
  std::optional<Result<KernelMount::Unmounted>> unmounted;
  co_await helpers_.run([&] { unmounted = kernel_mount_.unmount(); });
  leaving_ = false;
  if (!*unmounted) {
    log_.error("{}; still mounted", unmounted->error().describe());
    co_return;
  }
  if (**unmounted == KernelMount::Unmounted::detached)
    log_.warning("{}: files are still open; their users get errors from now on", arguments_.directory);
  // After a complete unmounting the kernel has said so itself.
  if (**unmounted != KernelMount::Unmounted::completely) front_->disconnect();
}

Task<Result<>> MountService::unmount_volume() {
  if (cluster_) cluster_->node().set_filesystem(nullptr);
  Result<> unmounted = co_await filesystem_->unmount();
  co_await close_volume();
  if (!unmounted) log_.error("unmounting {}: {}", arguments_.device, unmounted.error().describe());
  co_return unmounted;
}

}  // namespace corral
