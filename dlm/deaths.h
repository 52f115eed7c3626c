/// Which nodes died, and whose journals have been replayed since. Views and recoveries may become known in any order.
#pragma once

#include <algorithm>
#include <map>
#include <vector>

#include "cluster/member.h"

namespace corral::dlm {

class DeathTable {
 public:
  void died(Member member) {
    Record& record = records_[member.node];
    record.died = std::max(record.died, member.incarnation);
  }
  void recovered(Member member) {
    Record& record = records_[member.node];
    record.recovered = std::max(record.recovered, member.incarnation);
  }
  /// The life is a member now: what was said of it before it came in, when it could not be told from a dead one, does
  /// not count when it dies.
  void lives(Member member) {
    const auto found = records_.find(member.node);
    if (found == records_.end()) return;
    const Incarnation before(member.incarnation.value - 1);
    found->second.died = std::min(found->second.died, before);
    found->second.recovered = std::min(found->second.recovered, before);
  }
  /// Is anything of the node's last death still to be replayed?
  bool unrecovered(NodeId node) const {
    auto found = records_.find(node);
    return found != records_.end() && found->second.unrecovered();
  }
  std::vector<NodeId> unrecovered() const {
    std::vector<NodeId> nodes;
    for (const auto& [node, record] : records_) {
      if (record.unrecovered()) nodes.push_back(node);
    }
    return nodes;
  }

 private:
  struct Record {
    Incarnation died;
    Incarnation recovered;
    bool unrecovered() const { return died > recovered; }
  };
  std::map<NodeId, Record> records_;
};

}  // namespace corral::dlm
