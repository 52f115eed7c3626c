#include "fuse/mount_service.h"

#include <csignal>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/mount.h>

#include "fuse/mount_metrics.h"

namespace corral {

using namespace std::chrono_literals;

namespace {
/// Umount and mount block on requests that the loop serves; one of each at a time is enough.
constexpr std::size_t kHelperThreads = 2;
/// A sequential reader keeps this much under way, in requests of Front::kMaxTransferBytes.
constexpr std::uint64_t kReadAheadBytes = 4 << 20;

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
      hooks_(loop_, arguments_.event_hooks, log_),
      leave_(loop_.executor()),
      changed_(loop_.executor()),
      lives_(loop_.executor()) {}

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
    lives_.spawn(replace_lost_lives());
    co_await front_->ended();
  }
  metrics_.reset();
  // A signal's unmounting waits in the kernel for what follows.
  Result<> unmounted = co_await unmount_volume();
  if (front_) front_->finish();
  co_await leave_.join();
  co_await hooks_.finished();
  signals_.reset();
  front_.reset();
  if (!mounted) co_return mounted;
  co_return unmounted;
}

std::unique_ptr<MountLife> MountService::new_life() {
  auto life = std::make_unique<MountLife>(loop_, arguments_, sink_);
  life->on_uncertain = [this] {
    if (front_) front_->drop_kernel_caches();
  };
  life->on_event = [this](std::string event, std::string json) { hooks_.run(std::move(event), std::move(json)); };
  life->on_loss = [this] { changed_.notify_all(); };
  return life;
}

Task<Result<>> MountService::mount_volume() {
  CO_TRY(clustered_, co_await MountLife::is_clustered(loop_, arguments_));
  life_ = new_life();
  Result<> begun = co_await life_->begin(clustered_, false);
  if (begun) {
    serves_since_ = loop_.executor().now();
    volume_.emplace(life_->filesystem().superblock());
  } else {
    static_cast<void>(co_await life_->end());
    life_.reset();
  }
  co_return begun;
}

/// While the mount lasts. A mount of a single node keeps what it has, sound or not.
Task<void> MountService::replace_lost_lives() {
  while (clustered_ && !ending_) {
    while (!life_->loss() && !ending_)
      co_await changed_.wait();
    if (ending_) co_return;
    const Duration served = loop_.executor().now() - serves_since_;
    co_await front_->withdraw();
    if (ending_) co_return;
    const MountLife::Loss loss = *life_->loss();
    if (!loss.may_rejoin || !arguments_.rejoin) {
      log_.error("{}: everything gives EIO until it is unmounted", arguments_.directory);
      co_return;
    }
    log_.warning("{}: {}; what was open gives EIO until it is closed; rejoining the cluster", arguments_.directory,
                 loss.reason.describe());
    co_await silence_life();
    static_cast<void>(co_await life_->end());
    co_await pause(pace_.lost(served));
    co_await rejoin();
  }
}

Task<void> MountService::pause(Duration time) {
  const Time next = loop_.executor().now() + time;
  while (!ending_ && loop_.executor().now() < next)
    static_cast<void>(co_await changed_.wait_until(next));
}

/// Returns when the next life serves, or the mount ends.
Task<void> MountService::rejoin() {
  std::string said;
  while (!ending_) {
    life_ = new_life();
    Result<> begun = co_await life_->begin(clustered_, true);
    if (begun) begun = check_same_volume();
    if (begun && !ending_) {
      if (ClusterNode* node = life_->node()) front_->set_file_locks(node->file_locks());
      front_->attach(life_->filesystem());
      tell_of_life();
      serves_since_ = loop_.executor().now();
      log_.info("{}: rejoined the cluster", arguments_.directory);
      co_return;
    }
    if (ending_) co_return;
    static_cast<void>(co_await life_->end());
    if (begun.error().describe() != said)
      log_.warning("{}: cannot rejoin yet: {}; trying again", arguments_.directory, begun.error().describe());
    said = begun.error().describe();
    co_await pause(pace_.refused());
  }
}

/// The kernel knows the inodes of the volume that was mounted first.
Result<> MountService::check_same_volume() const {
  const ondisk::SuperblockInfo& found = life_->filesystem().superblock();
  if (found.uuid == volume_->uuid && found.root_dir.addr == volume_->root_dir.addr &&
      found.geometry.block_size() == volume_->geometry.block_size())
    return {};
  return fail(ESTALE, "{} has another volume now; unmount {}, and mount it again to use that", arguments_.device,
              arguments_.directory);
}

Task<Result<>> MountService::mount_in_kernel() {
  FileDescriptor channel(open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!channel) co_return fail(errno, "/dev/fuse: {}; is the kernel module fuse loaded?", strerror(errno));
  const int descriptor = channel.get();
  FrontSettings settings;
  // Nodes cannot share a cache of sizes and times that only the kernel knows.
  settings.writeback_cache = arguments_.writeback_cache && !clustered_;
  settings.drop_pages_at_open = arguments_.filesystem.atime == AtimePolicy::strictatime;
  settings.directory_atime = (arguments_.kernel_flags & MS_NODIRATIME) == 0;
  settings.acl = arguments_.filesystem.acl;
  settings.synchronous_names = (arguments_.kernel_flags & (MS_SYNCHRONOUS | MS_DIRSYNC)) != 0;
  front_ = std::make_unique<Front>(loop_, std::move(channel), life_->filesystem(), settings, log_);
  if (ClusterNode* node = life_->node()) front_->set_file_locks(node->file_locks());

  life_->device().release_claim();
  KernelMount::Request request{.source = arguments_.device,
                               .directory = arguments_.directory,
                               .flags = arguments_.kernel_flags,
                               .security_options = arguments_.security_options,
                               .block_size = volume_->geometry.block_size()};
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

void MountService::tell_of_life() {
  report_ = std::make_unique<MountReport>(MountReport::Parts{.device = arguments_.device,
                                                             .directory = arguments_.directory,
                                                             .filesystem = life_->filesystem(),
                                                             .front = *front_,
                                                             .node = life_->node()});
  commands_ = std::make_unique<MountCommands>(life_->filesystem(), arguments_.directory);
}

/// The life is about to end: nothing is told of it any more, and no command works on its volume.
Task<void> MountService::silence_life() {
  report_.reset();
  if (commands_) co_await commands_->end();
  commands_.reset();
}

Task<Result<nlohmann::json>> MountService::answer(nlohmann::json request, std::stop_token stop) {
  if (!report_)
    co_return fail(ESHUTDOWN, "{}: the cluster has lost this node{}", arguments_.directory,
                   arguments_.rejoin ? ", which is on its way back" : "");
  if (MountCommands::knows(request)) co_return co_await commands_->run(std::move(request), std::move(stop));
  co_return report_->answer(request);
}

/// A mount that cannot be asked is better than none.
void MountService::open_control_socket() {
  const KernelMount::DeviceNumber number = kernel_mount_.device_number();
  tell_of_life();
  auto answer = [this](nlohmann::json request, std::stop_token stop) {
    return this->answer(std::move(request), std::move(stop));
  };
  auto socket = ControlSocket::listen(loop_, control_socket_path(number.major, number.minor), answer, log_);
  if (socket) {
    control_ = *std::move(socket);
  } else {
    log_.warning("no control socket: {}; corral status, locks, top, trim, quota and grow cannot ask this mount",
                 socket.error().describe());
  }
}

/// A mount that cannot be asked is better than none: the operator's monitoring will notice.
void MountService::open_metrics_endpoint() {
  if (!arguments_.metrics) return;
  auto text = [this] {
    return report_ ? open_metrics(report_->status(), report_->counters()) : open_metrics_of_lost_life();
  };
  auto endpoint = MetricsEndpoint::listen(loop_, *arguments_.metrics, text, log_);
  if (endpoint) {
    metrics_ = *std::move(endpoint);
  } else {
    log_.error("{}", endpoint.error().describe());
  }
}

/// Also while the next life is on its way.
Task<Result<>> MountService::unmount_volume() {
  report_.reset();
  ending_ = true;
  changed_.notify_all();
  life_->give_up();
  co_await lives_.join();
  // Commands that were under way are answered before the socket goes.
  co_await silence_life();
  control_.reset();
  Result<> unmounted = co_await life_->end();
  if (!unmounted) log_.error("unmounting {}: {}", arguments_.device, unmounted.error().describe());
  co_return unmounted;
}

}  // namespace corral
