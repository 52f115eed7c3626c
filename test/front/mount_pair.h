/// Two nodes in one process, each with a real FUSE mount, on one volume: one disk in memory, one lock space, one event
/// loop that drives both fronts. What uses the mounts are processes of their own, forked before there is any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "disk/event_loop.h"
#include "disk/helper_threads.h"
#include "disk/simulated_device.h"
#include "fuse/front.h"
#include "test/front/model_lock_space.h"
#include "test/support/simulated_volume.h"

namespace corral::test {

/// Why there can be no real mounts here; empty if there can.
std::string why_no_mounts();

/// What users of the two mounts do: runs in a process of its own; an exception is its complaint.
using MountUser = std::function<void(const std::vector<std::string>& mounts)>;

/// A forked process that waits to be told to begin.
class UserProcess {
 public:
  UserProcess(const MountUser& user, const std::vector<std::string>& mounts);
  ~UserProcess();
  UserProcess(const UserProcess&) = delete;
  UserProcess& operator=(const UserProcess&) = delete;
  void begin() const;
  int output() const { return output_.get(); }
  /// After its output has ended: what it complained of, or how it died.
  std::string complaint();
  /// Takes in what it has said; false at the end.
  bool read_output();

 private:
  int pid_ = -1;
  FileDescriptor go_;
  FileDescriptor output_;
  std::string text_;
};

class MountPair {
 public:
  static constexpr std::uint32_t kNodes = 2;

  /// Forks the users of all stages, of which one begins when all users of the one before have ended; makes the nodes.
  MountPair(const std::vector<std::vector<MountUser>>& stages, std::uint64_t seed);
  ~MountPair();

  /// Mounts, lets the users run to their ends, unmounts. What went wrong, in words; empty if nothing did.
  std::string run();
  const std::string& statistics(std::uint32_t node) const { return nodes_[node]->statistics; }

 private:
  struct Node {
    std::uint32_t number = 0;
    std::string folder;
    std::unique_ptr<SimulatedDevice> device;
    std::unique_ptr<ModelLockSpace::Node> locks;
    std::unique_ptr<Filesystem> filesystem;
    std::unique_ptr<Front> front;
    LineSink log;
    std::string statistics;
    bool mounted = false;
  };

  using Stage = std::vector<std::unique_ptr<UserProcess>>;
  Task<std::string> play();
  Task<Result<>> mount(Node& node);
  Task<Result<>> unmount(Node& node);
  Task<std::string> users_finished(Stage& users);
  std::string who_waits() const;

  std::vector<std::string> folders_;
  std::vector<Stage> stages_;
  Random random_;
  EventLoop loop_;
  SimulatedDisk disk_;
  std::unique_ptr<ModelLockSpace> locks_;
  std::vector<std::unique_ptr<Node>> nodes_;
  HelperThreads helpers_;
};

}  // namespace corral::test
