/// One node of a cluster on a simulated disk and network: filesystem, lock manager, membership, fencing; all that
/// production has but the kernel and the wires.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "disk/simulated_device.h"
#include "fence/fencing.h"
#include "fs/filesystem.h"
#include "node/cluster_node.h"
#include "node/node_devices.h"
#include "offline/volume_reader.h"
#include "test/support/no_programs.h"
#include "test/support/simulated_links.h"
#include "test/support/simulated_volume.h"

namespace corral::test {

/// One life. Destroying it is the node's death.
class MountedNode {
 public:
  /// All outlive the node.
  struct World {
    Executor& executor;  ///< of disk and network
    Executor& node;      ///< where the node itself runs; may be the same
    SimulatedDisk& disk;
    SimulatedNetwork& network;
    SimulatedLinks::Ends& ends;
  };

  MountedNode(World world, std::uint64_t seed, SimulatedDeviceOptions options, LogSink* sink = nullptr)
      : device(world.executor, world.disk, seed, std::move(options), &world.node),
        devices(world.node, device),
        links(world.node, world.network, world.ends),
        world_(world),
        sink_(sink != nullptr ? *sink : log) {}
  ~MountedNode() {
    // Who uses what goes before it.
    filesystem.reset();
    lock_space.reset();
    node.reset();
  }

  /// Puts something of the caller's between the filesystem and its lock space.
  std::function<std::unique_ptr<LockSpace>(LockSpace&)> watch_locks;
  /// Told when the node is a member no more, or its filesystem has withdrawn.
  std::function<void(const Error& why)> on_lost;

  /// Joins the cluster and mounts.
  Task<Result<>> start(std::string name, std::uint32_t journals, MountOptions options, Random random) {
    CO_TRY(VolumeReader volume, co_await VolumeReader::open(devices.area));
    CO_TRY(cluster::ClusterArea area, co_await cluster::ClusterArea::find(volume));
    CO_TRY(cluster::Header header, co_await area.read_header());
    CO_TRY(fencer, co_await choose_fencer({world_.node, area, devices.writes, programs, name, Logger(sink_)}, header));
    cluster::NodeOptions about{.name = std::move(name),
                               .journals = journals,
                               .incarnation = cluster::new_incarnation(world_.node.clock().wall(), random)};
    node = std::make_unique<ClusterNode>(
        ClusterNode::Environment{world_.node, devices.volume, devices.writes, links, *fencer, sink_}, area, header,
        about, random.split());
    CO_TRY_VOID(co_await node->join());
    if (watch_locks) lock_space = watch_locks(node->lock_space());
    Filesystem::Environment environment{.executor = world_.node,
                                        .device = devices.writes,
                                        .log = sink_,
                                        .random_seed = random.next(),
                                        .lock_space = lock_space ? lock_space.get() : &node->lock_space(),
                                        .journal = node->journal(),
                                        .first_mounter = false,
                                        .withdrawn = [this](const Error& why) { withdrawn(why); }};
    CO_TRY(filesystem, co_await Filesystem::mount(std::move(environment), std::move(options)));
    node->set_filesystem(*filesystem);
    node->on_lost = [this](const Error& why) {
      lost = true;
      if (filesystem) filesystem->volume().withdraw(why);
    };
    co_return Result<>{};
  }

  /// Unmounts and leaves.
  Task<Result<>> stop() {
    co_await node->take_filesystem_away();
    CO_TRY_VOID(co_await filesystem->unmount());
    filesystem.reset();
    co_await node->leave();
    co_return Result<>{};
  }

  Operations& operations() { return filesystem->operations(); }
  BlockNo root() const { return filesystem->root(); }

  SimulatedDevice device;
  NodeDevices devices;
  SimulatedLinks links;
  LineSink log;
  NoPrograms programs;
  std::unique_ptr<cluster::Fencer> fencer;
  std::unique_ptr<ClusterNode> node;
  std::unique_ptr<LockSpace> lock_space;
  std::unique_ptr<Filesystem> filesystem;
  bool lost = false;  ///< told that it is a member no more

 private:
  void withdrawn(const Error& why) {
    node->fail(why);
    if (on_lost) on_lost(why);
  }

  World world_;
  LogSink& sink_;
};

}  // namespace corral::test
