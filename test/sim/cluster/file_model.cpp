#include "test/sim/cluster/file_model.h"

namespace corral::sim {

namespace {
void append_number(std::string& key, std::uint32_t number) {
  key.append(reinterpret_cast<const char*>(&number), sizeof(number));
}
void append_set(std::string& key, const std::vector<std::uint32_t>& set) {
  append_number(key, static_cast<std::uint32_t>(set.size()));
  for (const std::uint32_t value : set)
    append_number(key, value);
}
void append_contents(std::string& key, const FileModel::Contents& contents) {
  append_set(key, contents.sizes);
  append_number(key, static_cast<std::uint32_t>(contents.slots.size()));
  for (const auto& slot : contents.slots)
    append_set(key, slot);
}
}  // namespace

std::string FileModel::State::key() const {
  std::string key;
  append_contents(key, now);
  append_number(key, owner);
  for (const Candidates& slot : unflushed)
    append_set(key, slot);
  if (owner != 0) append_contents(key, at_death);
  return key;
}

void FileModel::add(std::vector<std::uint32_t>& set, std::uint32_t value) {
  const auto at = std::ranges::lower_bound(set, value);
  if (at == set.end() || *at != value) set.insert(at, value);
}

void FileModel::merge(Contents& into, const Contents& from) {
  for (const std::uint32_t size : from.sizes)
    add(into.sizes, size);
  merge_slots(into.slots, from.slots);
}

void FileModel::merge_slots(std::vector<Candidates>& into, const std::vector<Candidates>& from) {
  into.resize(std::max(into.size(), from.size()));
  for (std::size_t slot = 0; slot < from.size(); ++slot) {
    for (const SlotValue value : from[slot])
      add(into[slot], value);
  }
}

/// Each of the nodes that die with the disk has a death of its own: the next one changes nothing more.
void FileModel::lose_power(State& state) {
  state.unflushed.resize(std::min(state.unflushed.size(), state.now.slots.size()));
  merge_slots(state.now.slots, state.unflushed);
  state.unflushed = state.now.slots;
}

/// New slots are zeros.
void FileModel::resize(Contents& contents, std::uint32_t size) {
  contents.slots.resize(size, Candidates{0});
  contents.sizes = {size};
}

bool FileModel::reads_as(Contents& contents, const std::vector<SlotValue>& seen) const {
  for (std::size_t slot = 0; slot < seen.size(); ++slot) {
    Candidates& candidates = contents.slots[slot];
    const SlotValue value = seen[slot];
    bool possible = std::ranges::binary_search(candidates, value);
    if (!possible && value >= kMixed && candidates.size() > 1) {
      possible = std::ranges::all_of(mixtures_.parts(value), [&candidates](SlotValue part) {
        return std::ranges::any_of(candidates, [part](SlotValue candidate) { return candidate == part; });
      });
    }
    if (!possible) return false;
    candidates = {value};
  }
  contents.slots.resize(seen.size());
  return true;
}

void FileModel::change(State& state, const Operation& operation) const {
  using Kind = Operation::Kind;
  const std::uint32_t size = state.now.sizes.front();
  state.now.slots.resize(size, Candidates{0});
  if (state.owner == 0) {
    state.owner = operation.life;
    state.at_death = state.now;
  }
  if (power_cuts_) merge_slots(state.unflushed, state.now.slots);
  if (operation.kind == Kind::truncate) {
    // What is cut off within a block is zeroed as data, which lands before the size does (data=ordered).
    for (std::size_t slot = operation.count; slot < state.at_death.slots.size(); ++slot)
      add(state.at_death.slots[slot], 0);
    resize(state.now, operation.count);
  }
  if (operation.kind == Kind::append) {
    resize(state.now, size + 1);
    state.now.slots[size] = {operation.value};
  }
  if (operation.kind == Kind::write) {
    resize(state.now, std::max(size, operation.first + operation.count));
    for (std::uint32_t i = 0; i < operation.count; ++i)
      state.now.slots[operation.first + i] = {operation.value};
  }
  merge(state.at_death, state.now);
  if (power_cuts_) merge_slots(state.unflushed, state.now.slots);
}

}  // namespace corral::sim
