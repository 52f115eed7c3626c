/// Which inodes the names of a directory may lead to, as the operations on it allow: the model of linearizability.h for
/// directories. A node's death may undo its last changes that nobody has seen, the latest first.
#pragma once

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "test/sim/cluster/history.h"

namespace corral::sim {

class NamesModel {
 public:
  /// By name.
  using Names = std::vector<InodeTag>;
  struct State {
    Names now;
    LifeId owner = 0;         ///< as in FileModel
    std::vector<Names> past;  ///< what `owner`'s death may bring back
    std::string key() const;
  };

  template <class Emit>
  void apply(const State& before, const Operation& operation, Emit emit) const {
    using Kind = Operation::Kind;
    State state = before;
    const bool owns = state.owner == operation.life;
    if (operation.kind == Kind::sync || operation.kind == Kind::death) {
      if (!owns) return emit(std::move(state));
      std::vector<Names> past = std::move(state.past);
      state.owner = 0;
      state.past.clear();
      emit(state);
      if (operation.kind == Kind::sync) return;
      for (Names& names : past) {
        state.now = std::move(names);
        emit(state);
      }
      return;
    }
    if (!owns) {
      state.owner = 0;
      state.past.clear();
    }
    if (!answer_fits(state, operation)) return;
    if (operation.error == 0) change(state, operation);
    emit(std::move(state));
  }

 private:
  static bool answer_fits(State& state, const Operation& operation);
  static void change(State& state, const Operation& operation);
  static bool lists(const Names& names, const std::vector<InodeTag>& seen);
};

}  // namespace corral::sim
