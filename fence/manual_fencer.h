/// Fencing where nothing but an operator can keep a node from writing: a life counts as fenced once "corral fence ack"
/// has said so, or its node has come back as a later one. Until then the others wait.
#pragma once

#include "fence/fencing.h"

namespace corral {

class ManualFencer final : public cluster::Fencer {
 public:
  ManualFencer(FencingParts parts, cluster::Uuid cluster) : parts_(std::move(parts)), cluster_(cluster) {}

  std::uint64_t key_of(Member member) const override { return fencing_key(cluster_, member, FencingWay::manual); }
  Task<Result<>> fence(Member victim) override;

 private:
  FencingParts parts_;
  cluster::Uuid cluster_;
};

}  // namespace corral
