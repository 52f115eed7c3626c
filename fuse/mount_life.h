/// One life of a mount: the opened device, the node's membership of the cluster where the volume belongs to one, and
/// the mounted volume. A mount has one after the other under the same mount in the kernel; nothing of one is left when
/// the next begins, its I/O and its key on the disk included.
///
/// begin() and end() once each; end() also after a failed begin(). One thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "disk/event_loop.h"
#include "disk/storage_device.h"
#include "fs/filesystem.h"
#include "fuse/mount_arguments.h"
#include "node/cluster_mount.h"
#include "node/node_devices.h"

namespace corral {

class MountLife {
 public:
  /// All outlive it.
  MountLife(EventLoop& loop, const MountArguments& arguments, LogSink& log);

  /// Whether the volume belongs to a cluster, as the options or its superblock say. A first look at the device, which
  /// others may be using.
  static Task<Result<bool>> is_clustered(EventLoop& loop, const MountArguments& arguments);

  /// Opens the device, joins the cluster, mounts the volume. `device_claimed`: StorageOptions::claimed. Errors say what
  /// to do; ECANCELED after give_up().
  Task<Result<>> begin(bool clustered, bool device_claimed);
  /// If begin() is under way, it is not wanted any more: it returns as soon as the device lets it.
  void give_up();
  /// Unmounts the volume, leaves the cluster, closes the device; what a lost life has not written stays so. Errors:
  /// what could not be written.
  Task<Result<>> end();

  Filesystem& filesystem() { return *filesystem_; }
  StorageDevice& device() { return *device_; }
  /// Null where the volume is no cluster's.
  ClusterNode* node() { return cluster_ ? &cluster_->node() : nullptr; }

  /// Why nothing is served and written any more.
  struct Loss {
    Error reason;
    bool may_rejoin;  ///< the cluster has taken this node for dead, or the disk has failed it: the volume is sound
  };
  const std::optional<Loss>& loss() const { return loss_; }
  /// Told when there is one.
  std::function<void()> on_loss;
  /// ClusterNode::on_uncertain and on_event.
  std::function<void()> on_uncertain;
  std::function<void(std::string event, std::string json)> on_event;

 private:
  Task<Result<>> open_join_and_mount(bool clustered, bool device_claimed);
  Task<Result<>> join();
  Task<Result<>> mount();
  void note_loss(const Error& reason, bool may_rejoin);
  void withdrew(const Error& reason);
  void node_lost(const Error& reason);

  EventLoop& loop_;
  const MountArguments& arguments_;
  LogSink& log_;
  std::unique_ptr<StorageDevice> device_;
  std::unique_ptr<NodeDevices> node_devices_;  ///< the same; where the volume is a cluster's
  std::unique_ptr<ClusterMount> cluster_;      ///< the same
  std::unique_ptr<Filesystem> filesystem_;
  std::optional<Loss> loss_;
  bool beginning_ = false;
  bool given_up_ = false;
};

}  // namespace corral
