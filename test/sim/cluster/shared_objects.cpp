#include "test/sim/cluster/shared_objects.h"

#include <algorithm>

#include "test/sim/cluster/file_model.h"
#include "test/sim/cluster/linearizability.h"
#include "test/sim/cluster/names_model.h"

namespace corral::sim {

void SharedObjects::begin_death(LifeId life, bool with_disk) {
  const Step step = next_step();
  for_each_history([&](std::vector<Operation>& history) {
    begin(history, {.kind = Operation::Kind::death, .life = life, .with_disk = with_disk}, step);
  });
}

void SharedObjects::end_death(LifeId life) {
  const Step step = next_step();
  for_each_history([life, step](std::vector<Operation>& history) {
    for (Operation& operation : history) {
      if (operation.kind == Operation::Kind::death && operation.life == life) operation.end = step;
    }
  });
}

namespace {

std::vector<Operation> effective(const std::vector<Operation>& history) {
  std::vector<Operation> kept;
  std::ranges::copy_if(history, std::back_inserter(kept), [](const Operation& one) {
    // What was read and never told constrains nothing.
    const bool only_looks = one.kind == Operation::Kind::read || one.kind == Operation::Kind::size ||
                            one.kind == Operation::Kind::lookup || one.kind == Operation::Kind::list ||
                            one.kind == Operation::Kind::sync;
    return !one.void_of_effect && (one.ended() || !only_looks);
  });
  return kept;
}

template <class Model>
std::optional<std::string> judge_one(Model model, const std::vector<Operation>& history, typename Model::State initial,
                                     const std::string& name, std::uint64_t& undecided) {
  const std::vector<Operation> kept = effective(history);
  LinearizabilityResult result = LinearizabilityCheck<Model>(std::move(model), kept, std::move(initial)).run();
  if (!result.decided) ++undecided;
  if (result.violation) return name + ": " + *result.violation;
  return std::nullopt;
}

}  // namespace

std::optional<std::string> SharedObjects::judge_file(const SharedFile& file, std::uint64_t& undecided) const {
  const bool power_cuts = std::ranges::any_of(file.history, [](const Operation& one) { return one.with_disk; });
  return judge_one(FileModel(mixtures, power_cuts), file.history, {}, "file " + file.name, undecided);
}

std::optional<std::string> SharedObjects::judge(std::uint64_t& undecided) const {
  for (const SharedFile& file : files) {
    if (auto wrong = judge_file(file, undecided)) return wrong;
  }
  for (const auto& [tag, file] : made) {
    if (auto wrong = judge_file(file, undecided)) return wrong;
  }
  for (const SharedDirectory& directory : directories) {
    NamesModel::State initial;
    initial.now.resize(names, 0);
    auto wrong =
        judge_one(NamesModel(), directory.history, std::move(initial), "directory " + directory.name, undecided);
    if (wrong) return wrong;
  }
  return std::nullopt;
}

}  // namespace corral::sim
