// Clients that freeze the volume.
#include <cstring>

#include "test/sim/cluster/judge.h"
#include "test/sim/cluster/simulation.h"
#include "test/sim/cluster/user.h"

namespace corral::sim {

using namespace std::chrono_literals;

/// What it must hold: from the freeze on, what is stable of the disk is a volume with nothing to be replayed. Another
/// node may thaw it meanwhile, or have frozen it before.
Task<void> User::freeze() {
  ++simulation_.report.deeds;
  Freezer& freezer = host_.filesystem().freezer();
  const Result<> frozen = co_await freezer.freeze(random_.between(1, 60) * 1s);
  tell("freeze", frozen ? 0 : frozen.error().code());
  if (!frozen) {
    const int error = frozen.error().code();
    if (error == EBUSY && random_.chance(1, 4)) {
      const Result<> thawed = co_await freezer.thaw();
      tell("thaw what another has frozen", thawed ? 0 : thawed.error().code());
    } else if (error != EBUSY && error != ETIMEDOUT && !excused()) {
      simulation_.fail_run(fmt::format("node {}: freeze ends with {}", host_.name(), std::strerror(error)));
    }
    co_return;
  }
  const bool certain = host_.filesystem().glocks().lock_space().certain();
  if (freezer.frozen_here() && certain && !excused()) {
    ++simulation_.report.cuts_examined;
    if (auto wrong = check_frozen_volume(simulation_.disk.after_cut_now(PowerCut::Unstable::lost, random_.next())))
      simulation_.fail_run("a copy of the frozen volume is damaged: " + *wrong);
  }
  co_await host_.processor().executor.sleep_for(random_.below(2000) * 1ms);
  const Result<> thawed = co_await freezer.thaw();
  tell("thaw", thawed ? 0 : thawed.error().code());
  if (!thawed && thawed.error().code() != EINVAL && !excused())
    simulation_.fail_run(fmt::format("node {}: thaw ends with {}", host_.name(), thawed.error().describe()));
}

}  // namespace corral::sim
