#include "fuse/mount_life.h"

#include "base/system_random.h"
#include "disk/open_device.h"
#include "fuse/caller_groups.h"

namespace corral {

namespace {
/// Lock protocol of volumes whose nodes are Corral mounts; every other one is somebody else's cluster, or none.
constexpr const char* kClusterProtocol = "lock_corral";
}  // namespace

MountLife::MountLife(EventLoop& loop, const MountArguments& arguments, LogSink& log)
    : loop_(loop), arguments_(arguments), log_(log) {}

Task<Result<bool>> MountLife::is_clustered(EventLoop& loop, const MountArguments& arguments) {
  std::string protocol = arguments.filesystem.lock_protocol;
  if (protocol.empty()) {
    StorageOptions options;
    options.read_only = true;
    options.exclusive = false;
    CO_TRY(auto device, co_await open_device(loop, arguments.device, options));
    auto volume = co_await VolumeReader::open(*device);
    co_await device->close();
    if (!volume) co_return std::unexpected(volume.error());
    protocol = volume->superblock().lock_protocol;
  }
  const bool clustered = protocol == kClusterProtocol;
  if (clustered && arguments.filesystem.spectator)
    co_return fail(EINVAL,
                   "{}: option spectator: a volume of a cluster is looked at with -o lockproto=lock_nolock,"
                   "spectator, and only while no node has it mounted",
                   arguments.device);
  co_return clustered;
}

Task<Result<>> MountLife::begin(bool clustered, bool device_claimed) {
  beginning_ = true;
  Result<> begun = co_await open_join_and_mount(clustered, device_claimed);
  beginning_ = false;
  if (given_up_) co_return fail(ECANCELED, "the mount was ended");
  if (begun && loss_) co_return std::unexpected(loss_->reason);
  co_return begun;
}

Task<Result<>> MountLife::open_join_and_mount(bool clustered, bool device_claimed) {
  StorageOptions options;
  // A node of a cluster writes its heartbeats, also where the mount is read-only.
  options.read_only = arguments_.filesystem.read_only && !clustered;
  options.claimed = device_claimed;
  options.shared_file = clustered;
  CO_TRY(device_, co_await open_device(loop_, arguments_.device, options));
  if (clustered && !given_up_) CO_TRY_VOID(co_await join());
  if (!given_up_) CO_TRY_VOID(co_await mount());
  co_return Result<>{};
}

Task<Result<>> MountLife::join() {
  node_devices_ = std::make_unique<NodeDevices>(loop_.executor(), *device_);
  CO_TRY(cluster_, co_await ClusterMount::prepare(loop_, *node_devices_, arguments_.node, log_, random_seed()));
  ClusterNode& node = cluster_->node();
  node.on_lost = [this](const Error& reason) { node_lost(reason); };
  node.on_uncertain = on_uncertain;
  node.on_event = on_event;
  if (given_up_) co_return Result<>{};
  co_return co_await node.join();
}

Task<Result<>> MountLife::mount() {
  Filesystem::Environment environment{.executor = loop_.executor(),
                                      .device = node_devices_ ? static_cast<Device&>(node_devices_->writes) : *device_,
                                      .log = log_,
                                      .random_seed = random_seed(),
                                      .in_additional_groups = in_additional_groups,
                                      .withdrawn = [this](const Error& reason) { withdrew(reason); }};
  if (cluster_) {
    environment.lock_space = &cluster_->node().lock_space();
    environment.journal = cluster_->node().journal();
    environment.first_mounter = false;
  }
  CO_TRY(filesystem_, co_await Filesystem::mount(environment, arguments_.filesystem));
  if (!cluster_) co_return Result<>{};
  cluster_->node().set_filesystem(*filesystem_);
  // What was lost while there was nobody to be told.
  if (loss_) filesystem_->volume().withdraw(loss_->reason);
  co_return Result<>{};
}

void MountLife::give_up() {
  if (!beginning_) return;
  given_up_ = true;
  if (cluster_) cluster_->node().fail(Error(ECANCELED, "the mount was ended"));
}

void MountLife::note_loss(const Error& reason, bool may_rejoin) {
  if (loss_) return;
  loss_ = Loss{reason, may_rejoin};
  if (on_loss) on_loss();
}

/// Damage that made the volume withdraw would be met again by the next life.
void MountLife::withdrew(const Error& reason) {
  // The filesystem may notice first that its locks are gone.
  if (cluster_ && cluster_->node().end_reason()) return node_lost(*cluster_->node().end_reason());
  note_loss(reason, cluster_ != nullptr && reason.kind() == ErrorKind::device);
  if (cluster_) cluster_->node().fail(reason);
}

void MountLife::node_lost(const Error& reason) {
  note_loss(reason, true);
  if (filesystem_) filesystem_->volume().withdraw(reason);
}

/// Leaves the cluster, if in order, after the filesystem has let go of everything.
Task<Result<>> MountLife::end() {
  Result<> unmounted;
  if (filesystem_) {
    if (cluster_) co_await cluster_->node().take_filesystem_away();
    unmounted = co_await filesystem_->unmount();
  }
  filesystem_.reset();
  if (cluster_) co_await cluster_->node().leave();
  cluster_.reset();
  if (device_) co_await device_->close();
  node_devices_.reset();
  device_.reset();
  co_return unmounted;
}

}  // namespace corral
