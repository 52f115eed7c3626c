#include "test/sim/cluster/user.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "test/sim/cluster/simulation.h"

namespace corral::sim {

using namespace std::chrono_literals;

Task<void> run_user(Simulation& simulation, Host& host, std::uint64_t seed) {
  User user(simulation, host, Random(seed));
  co_await user.run();
}

User::User(Simulation& simulation, Host& host, Random random)
    : simulation_(simulation), host_(host), life_(host.life()), objects_(simulation.objects), random_(random) {}

User::Entry User::begin(std::vector<Operation>& history, Operation operation) {
  operation.life = life_;
  SharedObjects::begin(history, std::move(operation), objects_.next_step());
  ++simulation_.report.deeds;
  return {&history, history.size() - 1};
}

bool User::excused() const {
  return host_.state() == Host::State::lost || host_.path_disturbed || simulation_.is_dead(life_);
}

void User::tell(const std::string& deed, int error) {
  simulation_.trace.line(host_.name(), "op", "life {} {}: {}", life_, deed, error);
}

/// The front of a mount gives no answer of a node that is lost, and holds those of one that is not certain to be a
/// member (Front::judge_answer). Here such a request is never answered, as if its process had been killed.
bool User::answers_leave() const {
  return host_.state() != Host::State::lost && host_.filesystem().glocks().lock_space().certain();
}

bool User::end(const Entry& entry, int error, std::initializer_list<int> answers) {
  const bool answers_deed = error == 0 || std::ranges::find(answers, error) != answers.end();
  if (answers_deed && !answers_leave()) {
    tell(entry->describe() + ", not answered", EIO);
    return false;
  }
  if (answers_deed) {
    entry->error = error;
    entry->end = objects_.next_step();
    tell(entry->describe(), error);
    return true;
  }
  tell(entry->describe(), error);
  // The inode may have gone since its name was looked up.
  if (error == ENOENT || error == ESTALE) {
    entry->void_of_effect = true;
    return false;
  }
  if ((error != EIO && error != EBADE) || !excused()) {
    simulation_.fail_run(
        fmt::format("node {}: {} ends with {}", host_.name(), entry->describe(), std::strerror(error)));
  }
  return false;
}

Task<Result<>> User::find_everything() {
  CO_TRY(const corral::Entry top, co_await operations().lookup(host_.mount().root(), "shared"));
  objects_.top = top.attributes.inode;
  for (std::size_t i = 0; i < objects_.files.size(); ++i) {
    CO_TRY(const corral::Entry file, co_await operations().lookup(objects_.top, objects_.files[i].name));
    if (file.attributes.inode != objects_.files[i].inode) co_return fail(ESTALE, "a shared file is another one now");
  }
  for (std::size_t i = 0; i < objects_.directories.size(); ++i) {
    CO_TRY_VOID(co_await operations().lookup(objects_.top, objects_.directories[i].name));
  }
  co_return Result<>{};
}

Deed User::draw_deed() {
  const auto& weights = simulation_.swarm.weights;
  std::uint64_t draw = random_.below(std::accumulate(weights.begin(), weights.end(), std::uint64_t{0}));
  std::size_t deed = 0;
  while (draw >= weights[deed])
    draw -= weights[deed++];
  return static_cast<Deed>(deed);
}

Task<void> User::run() {
  if (auto found = co_await find_everything(); !found) {
    if (!excused()) simulation_.fail_run(fmt::format("node {}: {}", host_.name(), found.error().describe()));
    co_return;
  }
  const auto pause = static_cast<std::uint64_t>(simulation_.swarm.pause_most.count());
  while (host_.working()) {
    for (std::uint64_t burst = random_.between(1, 12); burst > 0 && host_.working(); --burst)
      co_await act(draw_deed());
    co_await host_.processor().executor.sleep_for(Duration(static_cast<Duration::rep>(random_.below(pause + 1))));
  }
}

Task<void> User::look_at_everything() {
  if (auto found = co_await find_everything(); !found) {
    simulation_.fail_run(fmt::format("node {}: {}", host_.name(), found.error().describe()));
    co_return;
  }
  for (SharedFile& file : objects_.files) {
    co_await read_file(file);
    co_await read_size(file);
  }
  for (SharedDirectory& directory : objects_.directories) {
    co_await list(directory);
    for (std::uint32_t name = 0; name < objects_.names; ++name)
      co_await use_found(directory, name);
  }
}

Task<void> User::act(Deed deed) {
  if (deed <= Deed::sync_file) {
    // The first files are the most popular.
    const std::uint64_t pick = std::min(random_.below(objects_.files.size()), random_.below(objects_.files.size()));
    co_return co_await work_on_file(objects_.files[pick], deed);
  }
  if (deed == Deed::big_file) co_return co_await big_file();
  if (deed == Deed::many_files) co_return co_await many_files();
  if (deed == Deed::private_tree) co_return co_await private_tree();
  if (deed == Deed::sync_all) co_return co_await sync_all();
  if (deed == Deed::freeze) co_return co_await freeze();
  co_await work_on_names(objects_.directories[random_.below(objects_.directories.size())], deed);
}

std::string User::fresh_name(std::string_view kind) {
  return fmt::format("{}-{}-{}", kind, life_, objects_.next_value());
}

}  // namespace corral::sim
