/// Who masters what: each resource's name hashes to one member of the view, which remembers its master.
#pragma once

#include <unordered_map>

#include "cluster/member.h"
#include "dlm/types.h"

namespace corral::dlm {

/// The member of the view that keeps the name's entry. The view is not empty.
inline Member directory_node(const View& view, const ResourceName& name) {
  CHECK_INVARIANT(!view.members.empty());
  const auto upper_half = name.hash() >> 32;
  return view.members[static_cast<std::size_t>((upper_half * view.members.size()) >> 32)];
}

/// This node's part of the directory.
class Directory {
 public:
  /// Forgets everything: a new view spreads the names anew.
  void clear() { masters_.clear(); }
  /// The master; `candidate`, from now on, if there was none.
  Member find_or_appoint(const ResourceName& name, Member candidate) {
    return masters_.try_emplace(name, candidate).first->second;
  }
  /// False if somebody else is the master.
  bool forget(const ResourceName& name, Member master) {
    auto found = masters_.find(name);
    if (found == masters_.end() || found->second != master) return false;
    masters_.erase(found);
    return true;
  }

 private:
  std::unordered_map<ResourceName, Member> masters_;
};

}  // namespace corral::dlm
