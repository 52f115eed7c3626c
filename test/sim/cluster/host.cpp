#include "test/sim/cluster/host.h"

#include "test/sim/cluster/simulation.h"
#include "test/sim/cluster/user.h"

namespace corral::sim {

void TraceSink::write(LogLevel level, std::string_view line) {
  static constexpr std::string_view kLevels[] = {"debug", "info", "warning", "error"};
  trace_.line(node_, "log", "{}: {}", kLevels[static_cast<std::size_t>(level)], line);
}

Host::Host(Simulation& simulation, std::uint32_t index, std::int64_t drift_ppm)
    : simulation_(simulation),
      name_(1, static_cast<char>('a' + index)),
      processor_(simulation.time.clock, drift_ppm),
      sink_(simulation.trace, name_) {
  simulation_.time.processors.push_back(&processor_);
}

Host::~Host() {
  work_.reset();
  boot_.reset();
  mount_.reset();
  std::erase(simulation_.time.processors, &processor_);
}

void Host::enter(State state) {
  state_ = state;
  since_ = simulation_.time.clock.now();
}

void Host::boot() {
  life_ = simulation_.next_life();
  mounted_once_ = false;
  winding_down_ = false;
  path_disturbed = false;
  simulation_.trace.line(name_, "node", "boots, life {}", life_);
  mount_ = std::make_unique<test::MountedNode>(
      test::MountedNode::World{simulation_.time.executor, processor_.executor, simulation_.disk, simulation_.network,
                               simulation_.ends},
      simulation_.random.next(), simulation_.swarm.device, &sink_);
  simulation_.disk_watch.add_nexus(mount_->device.nexus(), life_, name_);
  mount_->watch_locks = [this](LockSpace& real) { return watched(real); };
  mount_->on_lost = [this](const Error& why) { lost(why); };
  boot_ = std::make_unique<Scope>(processor_.executor);
  work_ = std::make_unique<Scope>(processor_.executor);
  enter(State::booting);
  boot_->spawn(live());
}

std::unique_ptr<LockSpace> Host::watched(LockSpace& real) {
  auto nothing_cached = [this](GlockName name) {
    Filesystem* filesystem = mount_->filesystem.get();
    return filesystem == nullptr || filesystem->glocks().get(name.type, name.number)->blocks().empty();
  };
  simulation_.remember_member(life_, mount_->node->self());
  return std::make_unique<WatchedLockSpace>(real, simulation_.lock_watch, life_, nothing_cached);
}

Task<void> Host::live() {
  const Result<> started = co_await mount_->start(name_, static_cast<std::uint32_t>(simulation_.hosts.size()),
                                                  simulation_.swarm.mount, simulation_.random.split());
  if (!started) {
    simulation_.trace.line(name_, "node", "cannot mount: {}", started.error().describe());
    enter(State::lost);
    co_return;
  }
  if (state_ != State::booting) co_return;
  mounted_once_ = true;
  simulation_.disk_watch.mounted(life_, mount_->node->journal());
  simulation_.trace.line(name_, "node", "has mounted, life {}, journal {}", life_, mount_->node->journal().value);
  enter(State::up);
  if (simulation_.prepared()) start_clients();
}

void Host::start_clients() {
  for (std::uint32_t i = 0; i < simulation_.swarm.clients; ++i)
    work_->spawn(run_user(simulation_, *this, simulation_.random.next()));
}

void Host::lost(const Error& why) {
  if (state_ == State::lost || state_ == State::down) return;
  simulation_.trace.line(name_, "node", "is lost: {}", why.describe());
  if (mounted_once_) simulation_.note_death(*this, life_, mount_->node->self());
  enter(State::lost);
}

void Host::kill(Death how) {
  const bool silent = how != Death::process;
  if (state_ == State::down) return;
  simulation_.trace.line(name_, "node", "{}", silent ? "loses power" : "is killed");
  if (mount_->node != nullptr) simulation_.note_death(*this, life_, mount_->node->self(), how == Death::with_disk);
  for (PrivateTree& tree : private_trees) {
    if (tree.life == life_ && tree.end_event == 0) tree.end_event = simulation_.disk.event_count();
  }
  work_.reset();
  boot_.reset();
  mount_->links.drop(silent);
  mount_.reset();
  processor_.paused = false;
  enter(State::down);
}

void Host::leave() {
  if (state_ != State::up) return;
  simulation_.trace.line(name_, "node", "leaves");
  winding_down_ = true;
  enter(State::leaving);
  boot_->spawn(unmount());
}

Task<void> Host::unmount() {
  co_await work_->join();
  const Result<> stopped = co_await mount_->stop();
  if (state_ != State::leaving) co_return;
  if (!stopped) {
    simulation_.trace.line(name_, "node", "cannot unmount: {}", stopped.error().describe());
    enter(State::lost);
    co_return;
  }
  simulation_.trace.line(name_, "node", "has left");
  for (PrivateTree& tree : private_trees) {
    if (tree.life == life_ && tree.end_event == 0) tree.end_event = simulation_.disk.event_count();
  }
  simulation_.note_left(life_);
  enter(State::lost);
}

void Host::set_paused(bool paused) {
  if (processor_.paused == paused) return;
  simulation_.trace.line(name_, "node", "{}", paused ? "stands still" : "goes on");
  processor_.paused = paused;
}

}  // namespace corral::sim
