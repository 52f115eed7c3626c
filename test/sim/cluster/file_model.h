/// What a file may hold, as the operations on it allow: the model of linearizability.h for files.
///
/// A file is a row of slots of equal length. Where a node died, what only that node knew may be there or not, slot by
/// slot and sector by sector: then a slot has several candidates, until somebody reads it.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "test/sim/cluster/history.h"

namespace corral::sim {

class FileModel {
 public:
  /// Sorted, without duplicates.
  using Candidates = std::vector<SlotValue>;
  struct Contents {
    std::vector<std::uint32_t> sizes{0};
    std::vector<Candidates> slots;
    bool operator==(const Contents&) const = default;
  };
  struct State {
    Contents now;
    /// The life that has changed the file since it was last safe; 0: it is safe as it is.
    LifeId owner = 0;
    Contents at_death;  ///< what `owner`'s death may leave
    /// What else a power cut of the disk may leave in each slot: data that was overwritten in place since the last
    /// flush may be lost, in part as well, although it was handed over to other nodes.
    std::vector<Candidates> unflushed;
    std::string key() const;
  };

  /// `power_cuts`: the disk loses power with some of the deaths.
  FileModel(const Mixtures& mixtures, bool power_cuts) : mixtures_(mixtures), power_cuts_(power_cuts) {}
  /// Calls `emit(State)` for every state in which the operation, with the answer that it had, may leave the file.
  template <class Emit>
  void apply(const State& before, const Operation& operation, Emit emit) const;

 private:
  static void add(std::vector<std::uint32_t>& set, std::uint32_t value);
  static void merge(Contents& into, const Contents& from);
  static void merge_slots(std::vector<Candidates>& into, const std::vector<Candidates>& from);
  static void lose_power(State& state);
  static void resize(Contents& contents, std::uint32_t size);
  bool reads_as(Contents& contents, const std::vector<SlotValue>& seen) const;
  void change(State& state, const Operation& operation) const;

  const Mixtures& mixtures_;
  bool power_cuts_;
};

template <class Emit>
void FileModel::apply(const State& before, const Operation& operation, Emit emit) const {
  using Kind = Operation::Kind;
  State state = before;
  if (operation.kind == Kind::death) {
    if (state.owner == operation.life) state.now = state.at_death;
    if (state.owner == operation.life) state.owner = 0;
    if (operation.with_disk) lose_power(state);
    return emit(std::move(state));
  }
  if (operation.kind == Kind::sync) {
    if (state.owner == operation.life) state.owner = 0;
    state.unflushed.clear();
    return emit(std::move(state));
  }
  // What another node's operation meets was handed over, and is safe.
  if (state.owner != operation.life) state.owner = 0;
  const std::vector<std::uint32_t> sizes = state.now.sizes;
  for (const std::uint32_t size : sizes) {
    State next = state;
    next.now.sizes = {size};
    if (operation.kind == Kind::read) {
      if (operation.seen.size() != size || !reads_as(next.now, operation.seen)) continue;
      emit(std::move(next));
    } else if (operation.kind == Kind::size) {
      if (operation.count == size) emit(std::move(next));
    } else {
      change(next, operation);
      emit(std::move(next));
    }
  }
}

}  // namespace corral::sim
