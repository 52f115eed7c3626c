/// The fencing of a volume's nodes, seen and changed from the disk alone, for an administrator's program: it reads
/// whose keys are registered from the cluster area, and fences, clears and writes what an operator says into the area's
/// header, where there are reservations as one more registrant for as long as it takes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/result.h"
#include "base/task.h"
#include "cluster/area.h"
#include "cluster/observation.h"
#include "disk/device.h"
#include "disk/reservation.h"
#include "fence/reservation_fencer.h"

namespace corral {

struct FencingState;

class DiskFencing {
 public:
  enum class Way : std::uint8_t { none, reservations, life_locks, agent, manual };

  /// The device outlives it. ENOENT where the volume has no cluster area.
  static Task<Result<DiskFencing>> open(Executor& executor, Device& device, WallTime now, Random& random, Logger log);
  /// The same, of an area whose place is known.
  static Task<Result<DiskFencing>> open_at(Executor& executor, cluster::ClusterArea area, WallTime now, Random& random,
                                           Logger log);

  Task<Result<FencingState>> read();
  /// Removes the node's key, and makes sure that nothing of it is under way, as a member would. ENOENT where no node
  /// has that name; EOPNOTSUPP where the disk has no reservations, with what to do instead.
  Task<Result<>> fence(std::string node);
  /// The life of the node with that name that is dead and not recovered, and that an operator's word may be about.
  /// ENOENT where no slot in use has that name; EBUSY where its heart beats; EALREADY where nothing of it is left to be
  /// fenced; EOPNOTSUPP where the cluster fences by what needs nobody's word. Takes up to one and a half failure
  /// timeouts.
  Task<Result<cluster::ObservedNode>> find_dead(std::string node);
  /// Records that this life, as it stands, can write nothing more. EBUSY where its heart has beaten since it was found.
  Task<Result<>> acknowledge(cluster::ObservedNode dead);
  /// Who is alive on the volume (cluster::Observer, which remembers what it saw).
  Task<Result<cluster::Observation>> look() { return observer_.look(); }
  /// Records that the node with that name is to be fenced if it is a member, and not to be let in. Nothing is waited
  /// for. ENOSPC where too many are expelled; success where it is already.
  Task<Result<>> expel(std::string node);
  /// Takes that back. ENOENT where it is not expelled.
  Task<Result<>> let_in(std::string node);
  /// Removes the keys of no slot in use, and gives them. The holder's stays while nodes use the volume, for they take
  /// the reservation over from it without a gap.
  Task<Result<std::vector<ReservationKey>>> clear_stale();

 private:
  /// As whom this nexus is registered.
  struct Access {
    ReservationKey key;
    bool is_ours;  ///< else it is a node's of this host, which stays as it is
  };
  DiskFencing(Executor& executor, Device& device, cluster::ClusterArea area, cluster::Header header, Member self,
              Logger log);
  Task<Result<std::vector<cluster::Slot>>> occupied_slots();
  Task<Result<ReservationCapabilities>> capabilities();
  Task<Result<Access>> register_here(ReservationCapabilities can);
  Task<Result<>> fence_as(Access access, ReservationCapabilities can, Member victim);
  Task<Result<>> forget_fenced_lives();
  Task<Result<>> write_header(cluster::Header header);
  Task<Result<>> leave(Access access, ReservationCapabilities can);

  Executor* executor_;
  Device* device_;
  cluster::ClusterArea area_;
  cluster::Observer observer_;
  cluster::Header header_;
  Member self_;
  Logger log_;
};

struct FencingState {
  struct Key {
    ReservationKey key;
    std::uint32_t paths = 0;          ///< nexuses registered under it
    std::optional<std::string> node;  ///< none: stale, no slot in use has it
  };
  DiskFencing::Way way = DiskFencing::Way::none;
  std::uint32_t generation = 0;
  ReservationState reservation;
  std::vector<Key> keys;                    ///< in order of their values
  std::vector<std::string> unregistered{};  ///< nodes whose slot is in use and whose key is not there: fenced
  std::string agent{};                      ///< the fence agent's name, where that is the way
};

}  // namespace corral
