/// One computer of a simulated cluster: it boots, mounts, its clients work, it dies or unmounts, and boots again. Every
/// mount is a life of its own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "test/sim/cluster/history.h"
#include "test/sim/cluster/virtual_time.h"
#include "test/sim/workload.h"
#include "test/support/mounted_node.h"

namespace corral::sim {

class Simulation;

/// Log lines of a node go to the trace.
class TraceSink final : public LogSink {
 public:
  TraceSink(class Trace& trace, std::string node) : trace_(trace), node_(std::move(node)) {}
  bool enabled(LogLevel level) const override { return level != LogLevel::debug; }
  void write(LogLevel level, std::string_view line) override;

 private:
  class Trace& trace_;
  std::string node_;
};

class Host {
 public:
  enum class State { down, booting, up, lost, leaving };

  Host(Simulation& simulation, std::uint32_t index, std::int64_t drift_ppm);
  ~Host();

  const std::string& name() const { return name_; }
  State state() const { return state_; }
  LifeId life() const { return life_; }
  Processor& processor() { return processor_; }
  test::MountedNode& mount() { return *mount_; }
  bool has_mount() const { return mount_ != nullptr; }
  Filesystem& filesystem() { return *mount_->filesystem; }
  /// Since when it is in this state, by the world's clock.
  Time since() const { return since_; }

  /// Begins a new life.
  void boot();
  enum class Death {
    process,    ///< the host lives, and tells so
    host,       ///< silence
    with_disk,  ///< both lose power
  };
  void kill(Death how);
  /// Unmounts in order, once the clients have come to an end.
  void leave();
  void set_paused(bool paused);
  /// New clients for this life, each for `deeds` deeds or, 0, until told to end.
  void start_clients();
  /// True while clients should go on.
  bool working() const { return state_ == State::up && !winding_down_; }
  /// The clients finish what they are at, and do no more.
  void wind_down() { winding_down_ = true; }
  bool idle() const { return !work_ || work_->running() == 0; }
  Scope& work() { return *work_; }
  /// Fails the run where it was not to be expected.
  void lost(const Error& why);

  /// A client with a directory of its own. It stays here after the life that it worked in.
  struct PrivateTree {
    std::unique_ptr<Client> client;
    LifeId life;
    std::uint64_t end_event = 0;  ///< of the disk, when that life ended; 0: it has not
  };
  std::vector<PrivateTree> private_trees;
  bool path_disturbed = false;  ///< its way to the disk fails or has failed in this life

 private:
  Task<void> live();
  Task<void> unmount();
  void enter(State state);
  std::unique_ptr<LockSpace> watched(LockSpace& real);

  Simulation& simulation_;
  std::string name_;
  Processor processor_;
  TraceSink sink_;
  State state_ = State::down;
  Time since_{};
  LifeId life_ = 0;
  bool winding_down_ = false;
  bool mounted_once_ = false;  ///< in this life
  std::unique_ptr<test::MountedNode> mount_;
  std::unique_ptr<Scope> boot_;
  std::unique_ptr<Scope> work_;
};

}  // namespace corral::sim
