/// Strikes a simulated cluster with the faults of its swarm, at random moments, and heals each after a while.
#pragma once

#include <vector>

#include "base/random.h"
#include "base/task.h"
#include "test/sim/cluster/history.h"
#include "test/sim/cluster/swarm.h"

namespace corral::sim {

class Simulation;
class Host;

class Faults {
 public:
  explicit Faults(Simulation& simulation);
  /// Begins to strike.
  void begin();
  /// Strikes no more, and heals everything.
  void end();

 private:
  struct PathFault {
    LifeId life;
    std::uint64_t number;
  };

  Task<void> strike_now_and_then();
  void strike(FaultKind kind);
  Host* pick_up();
  Task<void> resume_later(Host& host, Duration after);
  Task<void> heal_network_later(Duration after);
  Task<void> heal_path_later(Host& host, PathFault fault, Duration after);
  void heal_path(Host& host, PathFault fault);
  void split(bool one_way);
  void slow_connection();
  void break_connection();
  void disturb_path(FaultKind kind);
  void lose_registrations();
  void cut_rack_power();
  Duration draw(Duration least, Duration most);

  Simulation& simulation_;
  Random random_;
  std::vector<PathFault> path_faults_;
  Scope scope_;
};

}  // namespace corral::sim
