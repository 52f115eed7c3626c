/// A whole cluster in one process under virtual time: complete nodes (filesystem, journal, lock manager, membership,
/// fencing; all but the kernel's side and the sockets) on one simulated disk and network, with clients, faults and
/// judges. The seed decides everything.
///
/// A run: the nodes mount; files and directories are made on which all meet; for the time asked for clients work and
/// faults strike; then everything is healed, and within a deadline all work must end and all nodes must mount. Then
/// each node reads everything once more, all unmount, and the histories and the volume are judged.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/simulated_network.h"
#include "test/sim/cluster/disk_watch.h"
#include "test/sim/cluster/host.h"
#include "test/sim/cluster/lock_watch.h"
#include "test/sim/cluster/shared_objects.h"
#include "test/sim/cluster/swarm.h"
#include "test/sim/cluster/trace.h"
#include "test/sim/cluster/virtual_time.h"

namespace corral::sim {

struct SimulationOptions {
  std::uint64_t seed = 1;
  std::uint32_t nodes = 0;  ///< 0: the seed decides, 2 to 5
  Duration time = std::chrono::seconds(60);
  std::string scenario = "any";
  bool print_trace = false;
  std::optional<Duration> until;  ///< stop there without judging
};

struct SimulationReport {
  std::optional<std::string> wrong;  ///< the first thing that was
  std::uint64_t trace_hash = 0;
  std::uint64_t trace_lines = 0;
  std::uint64_t deeds = 0;
  std::uint64_t deaths = 0;
  std::uint64_t recoveries = 0;
  std::uint64_t disk_writes = 0;
  std::uint64_t messages = 0;
  std::uint64_t undecided = 0;  ///< histories that were too involved to judge
  std::uint64_t cuts_examined = 0;
  Duration virtual_time{};
};

/// EINVAL for options that make no sense.
Result<SimulationReport> simulate(const SimulationOptions& options);

class Simulation {
 public:
  Simulation(const SimulationOptions& options, Swarm swarm, Random random, DiskImage volume, std::uint32_t nodes);
  ~Simulation();
  SimulationReport run();

  // For the parts.
  VirtualTime time;
  Trace trace;
  Swarm swarm;
  Random random;
  SimulatedDisk disk;
  SimulatedNetwork network;
  test::SimulatedLinks::Ends ends;
  LockWatch lock_watch;
  DiskWatch disk_watch;
  SharedObjects objects;
  std::vector<std::unique_ptr<Host>> hosts;
  SimulationReport report;

  /// The first thing wrong ends the run.
  void fail_run(std::string what);
  bool failed() const { return report.wrong.has_value(); }
  LifeId next_life() { return ++last_life_; }
  bool prepared() const { return prepared_; }
  /// Death of a life that was mounted: may be told more than once.
  void note_death(Host& host, LifeId life, Member member, bool with_disk = false);
  void note_left(LifeId life);
  void remember_member(LifeId life, Member member) { members_[life] = member; }
  std::string_view node_of(LifeId life) const;
  bool is_dead(LifeId life) const { return dead_.contains(life); }
  bool faults_ended() const { return faults_ended_; }
  /// One of those that are up; null where there is none.
  Host* any_host_up(Random& with);
  /// Lets time pass until it is done; fails the run with `complaint` where that takes too long.
  void wait_for(const std::function<bool()>& done, const std::string& complaint);

 private:
  struct Death {
    LifeId life;
    Member member;
  };

  template <class Done>
  bool run_until(Duration limit, Done done);
  bool still_stands(LifeId asking, LifeId held_by, GlockMode mode) const;
  Host* host_of(LifeId life) const;
  Task<void> supervise();
  Task<void> watch_recoveries();
  void end_deaths();
  bool recovered(const Death& death) const;
  bool all_up() const;
  void prepare();
  void work();
  void settle();
  void last_look();
  void unmount_all();
  void judge();
  void say_who_waits();
  void examine_cut();
  Task<void> examine_now_and_then();

  SimulationOptions options_;
  Time end_{};
  LifeId last_life_ = 0;
  std::map<LifeId, Member> members_;
  std::map<LifeId, std::string> nodes_of_lives_;
  std::vector<Death> deaths_;  ///< not recovered yet
  std::set<LifeId> dead_;      ///< all that ever died
  std::set<LifeId> over_;      ///< left, or dead and recovered
  bool prepared_ = false;
  bool faults_ended_ = false;
  std::unique_ptr<class Faults> faults_;
  std::unique_ptr<Scope> background_;
};

}  // namespace corral::sim
