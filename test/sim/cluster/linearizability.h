/// Whether a history of operations can have been: is there an order of the operations, each somewhere between its
/// beginning and its end, in which every answer is what the model would have given (Herlihy and Wing's
/// linearizability), where a node's death may undo what only that node knew?
///
/// The search of Wing and Gong, forward along the history: it keeps all states in which the object may be, each with
/// the operations under way that have had their effect in it; states that are alike are kept once. An operation's end
/// leaves only states in which it has had its effect.
#pragma once

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "test/sim/cluster/history.h"

namespace corral::sim {

struct LinearizabilityResult {
  std::optional<std::string> violation;
  bool decided = true;  ///< false: there were more possibilities than the limit
};

template <class Model>
class LinearizabilityCheck {
 public:
  using State = typename Model::State;
  /// `limit`: states kept at a time.
  LinearizabilityCheck(Model model, const std::vector<Operation>& history, State initial, std::size_t limit = 20'000)
      : model_(std::move(model)), history_(history), limit_(limit) {
    configurations_.push_back({std::move(initial), {}});
  }

  LinearizabilityResult run() {
    for (const auto& [step, index, is_end] : moments()) {
      if (!is_end) {
        if (!open(index)) return {std::nullopt, false};
        continue;
      }
      if (!close(index)) return {std::nullopt, false};
      if (configurations_.empty()) return {explain(index), true};
    }
    return {};
  }

 private:
  static constexpr std::size_t kSlots = 256;
  using Done = std::bitset<kSlots>;
  struct Configuration {
    State state;
    Done done;  ///< of the operations under way, those that have had their effect, or will never have one
    std::string key() const { return done.to_string() + state.key(); }
  };
  struct Moment {
    Step step;
    std::size_t index;
    bool is_end;
    auto operator<=>(const Moment&) const = default;
  };

  std::vector<Moment> moments() const {
    std::vector<Moment> moments;
    for (std::size_t i = 0; i < history_.size(); ++i) {
      moments.push_back({history_[i].begin, i, false});
      if (history_[i].ended()) moments.push_back({history_[i].end, i, true});
    }
    std::ranges::sort(moments);
    return moments;
  }

  bool open(std::size_t index) {
    std::size_t slot = 0;
    while (slot < kSlots && used_[slot])
      ++slot;
    if (slot == kSlots) return false;
    used_[slot] = true;
    under_way_[index] = slot;
    if (history_[index].kind == Operation::Kind::death) deaths_[history_[index].life] = slot;
    return true;
  }

  /// Keeps what is possible with the operation done, and forgets it.
  bool close(std::size_t index) {
    const std::size_t slot = under_way_.at(index);
    std::vector<Configuration> kept;
    std::unordered_set<std::string> known;
    std::vector<Configuration> work = std::move(configurations_);
    for (const Configuration& one : work)
      known.insert(one.key());
    while (!work.empty()) {
      Configuration one = std::move(work.back());
      work.pop_back();
      if (one.done[slot]) {
        kept.push_back(std::move(one));
      } else {
        for (const auto& [other, other_slot] : under_way_) {
          if (one.done[other_slot] || too_late(one, history_[other])) continue;
          advance(one, other, other_slot, known, work);
        }
      }
      if (known.size() > limit_) return false;
    }
    configurations_ = std::move(kept);
    const bool is_death = history_[index].kind == Operation::Kind::death;
    if (is_death) forget_unanswered(history_[index].life);
    // A death keeps its place: it tells which operations come too late.
    if (!is_death) forget(index);
    merge_alike();
    return true;
  }

  void advance(const Configuration& from, std::size_t index, std::size_t slot, std::unordered_set<std::string>& known,
               std::vector<Configuration>& work) const {
    model_.apply(from.state, history_[index], [&](State state) {
      Configuration next{std::move(state), from.done};
      next.done[slot] = true;
      if (known.insert(next.key()).second) work.push_back(std::move(next));
    });
  }

  bool too_late(const Configuration& one, const Operation& operation) const {
    if (operation.kind == Operation::Kind::death) return false;
    const auto death = deaths_.find(operation.life);
    return death != deaths_.end() && one.done[death->second];
  }

  void forget(std::size_t index) {
    const std::size_t slot = under_way_.at(index);
    for (Configuration& one : configurations_)
      one.done[slot] = false;
    used_[slot] = false;
    under_way_.erase(index);
  }

  void forget_unanswered(LifeId life) {
    std::vector<std::size_t> gone;
    for (const auto& [index, slot] : under_way_) {
      const Operation& operation = history_[index];
      if (operation.life == life && !operation.ended() && operation.kind != Operation::Kind::death)
        gone.push_back(index);
    }
    for (const std::size_t index : gone)
      forget(index);
  }

  void merge_alike() {
    std::unordered_set<std::string> known;
    std::erase_if(configurations_, [&known](const Configuration& one) { return !known.insert(one.key()).second; });
  }

  /// The operation whose answer nothing explains, with those shortly before it.
  std::string explain(std::size_t index) const {
    std::string text = "no order explains " + history_[index].describe();
    std::vector<const Operation*> earlier;
    for (const Operation& operation : history_) {
      if (operation.begin < history_[index].end) earlier.push_back(&operation);
    }
    constexpr std::size_t kShown = 25;
    std::ranges::sort(earlier, {}, [](const Operation* one) { return one->begin; });
    const std::size_t skip = earlier.size() > kShown ? earlier.size() - kShown : 0;
    for (std::size_t i = skip; i < earlier.size(); ++i)
      text += "\n    " + earlier[i]->describe();
    return text;
  }

  Model model_;
  const std::vector<Operation>& history_;
  std::size_t limit_;
  std::vector<Configuration> configurations_;
  std::map<std::size_t, std::size_t> under_way_;  ///< operation by index: its slot
  std::map<LifeId, std::size_t> deaths_;
  std::bitset<kSlots> used_;
};

}  // namespace corral::sim
