/// Which nodes died, and whose journals have been replayed since. What two nodes know merges by the higher incarnation.
#pragma once

#include <map>
#include <vector>

#include "cluster/member.h"
#include "dlm/message.h"

namespace corral::dlm {

class DeathTable {
 public:
  void died(Member member) { merge({member.node, member.incarnation, {}}); }
  /// The journal was replayed, or the member left in order. May come before died().
  void recovered(Member member) { merge({member.node, {}, member.incarnation}); }
  void merge(const DeathRecord& record) {
    DeathRecord& known = records_.try_emplace(record.node, DeathRecord{record.node, {}, {}}).first->second;
    known.died = std::max(known.died, record.died);
    known.recovered = std::max(known.recovered, record.recovered);
  }
  /// Is anything of the node's last death still to be replayed?
  bool unrecovered(NodeId node) const {
    auto found = records_.find(node);
    return found != records_.end() && found->second.died > found->second.recovered;
  }
  std::vector<NodeId> unrecovered() const {
    std::vector<NodeId> nodes;
    for (const auto& [node, record] : records_) {
      if (record.died > record.recovered) nodes.push_back(node);
    }
    return nodes;
  }
  bool has_recovered(Member member) const {
    auto found = records_.find(member.node);
    return found != records_.end() && found->second.recovered >= member.incarnation;
  }
  std::vector<DeathRecord> records() const {
    std::vector<DeathRecord> all;
    for (const auto& [node, record] : records_)
      all.push_back(record);
    return all;
  }

 private:
  std::map<NodeId, DeathRecord> records_;
};

}  // namespace corral::dlm
