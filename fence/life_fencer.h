/// Fencing where all nodes are processes of one host that share an image file: nobody is kept from writing, but a node
/// counts as fenced only once its process is gone, which the host's kernel knows for certain (disk/life_locks.h).
///
/// A process that hangs or is stopped is not fenced before somebody kills it; until then the others wait for it.
#pragma once

#include "cluster/fencer.h"
#include "disk/life_locks.h"
#include "fence/fencing.h"

namespace corral {

class LifeFencer final : public cluster::Fencer {
 public:
  /// The locks outlive it.
  LifeFencer(LifeLocks& locks, cluster::Uuid cluster) : locks_(locks), cluster_(cluster) {}

  std::uint64_t key_of(Member member) const override { return fencing_key(cluster_, member, FencingWay::life_locks); }
  Task<Result<>> admit(Member self) override;
  Task<Result<>> fence(Member victim) override;
  Task<Result<>> leave(bool last) override;

 private:
  LifeLocks& locks_;
  cluster::Uuid cluster_;
  Member self_{};
};

}  // namespace corral
