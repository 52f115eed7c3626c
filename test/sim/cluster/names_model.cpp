#include "test/sim/cluster/names_model.h"

namespace corral::sim {

std::string NamesModel::State::key() const {
  std::string key;
  auto append = [&key](const Names& names) {
    key.append(reinterpret_cast<const char*>(names.data()), names.size() * sizeof(InodeTag));
  };
  append(now);
  key.append(reinterpret_cast<const char*>(&owner), sizeof(owner));
  for (const Names& names : past)
    append(names);
  return key;
}

/// The addresses as they were listed, one for each name, 0 where a name was not there.
bool NamesModel::lists(const Names& names, const std::vector<InodeTag>& seen) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    const bool fits = names[i] >= kUnknown ? seen[i] != 0 : names[i] >> 20 == seen[i];
    if (!fits) return false;
  }
  return true;
}

bool NamesModel::answer_fits(State& state, const Operation& operation) {
  using Kind = Operation::Kind;
  const InodeTag there = state.now.at(operation.first);
  // Of an operation that was never answered any effect is possible that it could have had.
  if (!operation.ended()) {
    if (operation.kind == Kind::insert) return there == 0;
    return operation.kind == Kind::replace || there != 0;
  }
  switch (operation.kind) {
    case Kind::lookup:
      if (operation.error == ENOENT) return there == 0;
      if (there < kUnknown) return there == operation.tag;
      for (Names& names : state.past)
        std::ranges::replace(names, there, operation.tag);
      std::ranges::replace(state.now, InodeTag{there}, operation.tag);
      return true;
    case Kind::insert:
      return operation.error == EEXIST ? there != 0 : there == 0;
    case Kind::replace:
      return true;
    case Kind::remove:
    case Kind::move:
      return operation.error == ENOENT ? there == 0 : there != 0;
    case Kind::exchange: {
      const bool both = there != 0 && state.now.at(operation.second) != 0;
      return operation.error == ENOENT ? !both : both;
    }
    case Kind::list:
      return lists(state.now, operation.tags);
    default:
      return false;
  }
}

void NamesModel::change(State& state, const Operation& operation) {
  using Kind = Operation::Kind;
  if (operation.kind == Kind::lookup || operation.kind == Kind::list) return;
  Names before = state.now;
  InodeTag& there = state.now.at(operation.first);
  if (operation.kind == Kind::insert || operation.kind == Kind::replace) there = operation.tag;
  if (operation.kind == Kind::remove) there = 0;
  if (operation.kind == Kind::move && operation.first != operation.second) {
    InodeTag& target = state.now.at(operation.second);
    // Two names of one inode: rename(2) does nothing.
    if (target != there) {
      target = there;
      there = 0;
    }
  }
  if (operation.kind == Kind::exchange) std::swap(there, state.now.at(operation.second));
  if (state.now == before) return;
  state.owner = operation.life;
  if (std::ranges::find(state.past, before) == state.past.end()) state.past.push_back(std::move(before));
}

}  // namespace corral::sim
