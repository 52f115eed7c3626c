/// A volume made by our mkfs on a simulated disk, and a mount of it: for tests of the parts of the filesystem that need
/// all others.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include "disk/simulated_device.h"
#include "fs/filesystem.h"
#include "test/support/formatted_volume.h"
#include "test/support/manual_clock.h"
#include "test/support/must.h"
#include "test/support/simulated_volume.h"

namespace corral::test {

/// One mount's world: clock, executor, device. Destroying it with the mount still there is the node's death.
class MountedVolume {
 public:
  explicit MountedVolume(SimulatedDisk& disk, MountOptions options = {}, SimulatedDeviceOptions device_options = {},
                         std::uint64_t seed = 1)
      : device(executor, disk, seed, std::move(device_options)) {
    filesystem = must(run(Filesystem::mount({executor, device, log, seed}, std::move(options))));
  }

  template <class T>
  T run(Task<T> task) {
    return run_to_end(clock, executor, std::move(task));
  }
  Operations& operations() { return filesystem->operations(); }
  FileData& data() { return filesystem->data(); }
  void unmount() {
    must(run(filesystem->unmount()));
    filesystem.reset();
  }

  /// A new regular file in the root.
  BlockNo create(const std::string& name) {
    NewNode node;
    node.mode = S_IFREG | 0644;
    return must(run(operations().create(filesystem->root(), name, node, {}))).attributes.inode;
  }
  BlockNo find(const std::string& name) {
    return must(run(operations().lookup(filesystem->root(), name))).attributes.inode;
  }
  LockedInode lock(BlockNo inode, GlockMode mode = GlockMode::exclusive) {
    return must(run(filesystem->inodes().lock(filesystem->inodes().find(inode), mode)));
  }
  std::uint64_t free_blocks() { return must(run(filesystem->allocator().figures())).free_blocks; }

  std::vector<std::byte> read(BlockNo inode, std::uint64_t offset, std::size_t length) {
    AlignedBuffer buffer(length);
    std::size_t got = must(run(operations().read(inode, offset, buffer.span())));
    return {buffer.data(), buffer.data() + got};
  }

  ManualClock clock;
  Executor executor{clock};
  SimulatedDevice device;
  LineSink log;
  std::unique_ptr<Filesystem> filesystem;
};

}  // namespace corral::test
