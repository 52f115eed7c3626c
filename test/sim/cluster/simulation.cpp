#include "test/sim/cluster/simulation.h"

#include <algorithm>
#include <iterator>

#include <sys/stat.h>

#include "test/sim/cluster/faults.h"
#include "test/sim/cluster/judge.h"
#include "test/sim/cluster/user.h"
#include "test/support/format_image.h"

namespace corral::sim {

using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t kNodesMost = 8;
/// After the faults have ended, how long until everybody must be back, and every request be answered.
constexpr Duration kPatience = 300s;

/// A volume is the same for every seed but for its journals and settings: made once for each.
Result<DiskImage> volume_for(std::uint32_t nodes, std::uint32_t failure_timeout_ms) {
  static std::map<std::pair<std::uint32_t, std::uint32_t>, DiskImage> made;
  const std::pair key(nodes, failure_timeout_ms);
  if (const auto known = made.find(key); known != made.end()) return known->second;
  mkfs::FormatOptions options;
  options.journal_mebibytes = 8;
  options.journals = nodes;
  options.lock_table = "test:simulation";
  options.cluster.settings.failure_timeout_ms = failure_timeout_ms;
  options.cluster.cluster[0] = 0x51;
  TRY(DiskImage image, test::format_image(options, 160));
  return made.emplace(key, std::move(image)).first->second;
}

SimulatedNetworkOptions network_options(const Swarm& swarm) {
  SimulatedNetworkOptions options;
  options.latency_max = swarm.network_latency_most;
  return options;
}

}  // namespace

Result<SimulationReport> simulate(const SimulationOptions& options) {
  Random random(options.seed);
  TRY(Swarm swarm, draw_swarm(options.scenario, random));
  const std::uint32_t nodes =
      options.nodes != 0 ? options.nodes : static_cast<std::uint32_t>(random.split().between(2, 5));
  if (nodes > kNodesMost) return fail(EINVAL, "{} nodes: at most {} are simulated", nodes, kNodesMost);
  if (options.time <= Duration{}) return fail(EINVAL, "the time to simulate must be more than nothing");
  TRY(DiskImage volume, volume_for(nodes, swarm.failure_timeout_ms));
  Simulation simulation(options, std::move(swarm), random, std::move(volume), nodes);
  return simulation.run();
}

Simulation::Simulation(const SimulationOptions& options, Swarm swarm_of_run, Random seeded, DiskImage volume,
                       std::uint32_t nodes)
    : trace(time.clock),
      swarm(std::move(swarm_of_run)),
      random(seeded),
      disk(std::move(volume)),
      network(time.executor, random.next(), network_options(swarm)),
      disk_watch(disk, trace),
      options_(options),
      background_(std::make_unique<Scope>(time.executor)) {
  if (options_.print_trace) trace.print_to(stdout);
  disk.keep_no_history();
  disk.reservations().set_features(
      {.preempt_and_abort = swarm.target_has_abort, .persist_through_power_loss = swarm.persisting_registrations});
  const auto report_violation = [this](const std::string& what) { fail_run(what); };
  lock_watch.violation = report_violation;
  lock_watch.still_stands = [this](LifeId asking, LifeId held_by, GlockMode mode) {
    return still_stands(asking, held_by, mode);
  };
  lock_watch.changed = [this](LifeId life, GlockName name, GlockMode mode, bool down) {
    static constexpr std::string_view kModes[] = {"unlocked", "shared", "deferred", "exclusive"};
    trace.line("-", "lock", "life {} {} {}/{:x} {}", life, down ? "lowers" : "has", static_cast<int>(name.type),
               name.number, kModes[static_cast<std::size_t>(mode)]);
  };
  disk_watch.violation = report_violation;
  disk_watch.on_fenced = [this](LifeId life) {
    Host* host = host_of(life);
    // Who has unmounted gives its key back.
    const bool unmounted = host != nullptr && host->state() == Host::State::leaving && !host->mount().filesystem;
    if (host != nullptr && !unmounted) note_death(*host, life, members_[life]);
  };
  network.on_delivery = [this](const Delivery& delivery) {
    const std::string_view bytes(reinterpret_cast<const char*>(delivery.message.data()), delivery.message.size());
    trace.line("-", "msg", "slot {} to slot {}, channel {}: {} bytes {:016x}", delivery.from.node.value,
               delivery.to.node.value, static_cast<int>(delivery.channel), bytes.size(), digest(bytes));
  };
  objects.names = swarm.names;
  for (std::uint32_t i = 0; i < nodes; ++i) {
    const auto most = static_cast<std::uint64_t>(swarm.drift_ppm_most);
    const auto drift = static_cast<std::int64_t>(random.below(2 * most + 1)) - swarm.drift_ppm_most;
    hosts.push_back(std::make_unique<Host>(*this, i, drift));
  }
}

Simulation::~Simulation() {
  faults_.reset();
  background_.reset();
  hosts.clear();
}

void Simulation::fail_run(std::string what) {
  if (failed()) return;
  trace.line("-", "WRONG", "{}", what);
  report.wrong = std::move(what);
  if (options_.print_trace) say_who_waits();
}

template <class Done>
bool Simulation::run_until(Duration limit, Done done) {
  Time end = time.clock.now() + limit;
  const bool stops = options_.until && end_ - options_.time + *options_.until < end;
  if (stops) end = end_ - options_.time + *options_.until;
  const bool reached = time.run_until(end, [&] { return failed() || done(); });
  if (stops && !reached) fail_run("stopped where --until says");
  return reached && !failed();
}

void Simulation::wait_for(const std::function<bool()>& done, const std::string& complaint) {
  if (run_until(kPatience, done) || failed()) return;
  fail_run(complaint);
}

Host* Simulation::host_of(LifeId life) const {
  const auto found = std::ranges::find_if(hosts, [life](const auto& host) { return host->life() == life; });
  return found == hosts.end() ? nullptr : found->get();
}

Host* Simulation::any_host_up(Random& with) {
  std::vector<Host*> up;
  for (auto& host : hosts) {
    if (host->state() == Host::State::up) up.push_back(host.get());
  }
  return up.empty() ? nullptr : up[with.below(up.size())];
}

void Simulation::note_death(Host& host, LifeId life, Member member, bool with_disk) {
  if (over_.contains(life) || !dead_.insert(life).second) return;
  trace.line(host.name(), "node", "life {} is over", life);
  ++report.deaths;
  deaths_.push_back({life, member});
  objects.begin_death(life, with_disk);
}

void Simulation::note_left(LifeId life) {
  // If it was fenced while it left, it is dead like others.
  if (dead_.contains(life)) return;
  over_.insert(life);
  disk_watch.left(life);
  lock_watch.forget(life);
}

/// Whether everybody who could know has taken note of the death and of the replay of the journal.
bool Simulation::recovered(const Death& death) const {
  bool anybody = false;
  for (const auto& host : hosts) {
    if (host->state() != Host::State::up) continue;
    if (host->life() == death.life) return false;
    ClusterNode& node = *host->mount().node;
    if (!node.lock_manager().running() || node.lock_manager().view().contains(death.member)) return false;
    if (node.unrecovered().contains(death.member)) return false;
    anybody = true;
  }
  return anybody;
}

void Simulation::end_deaths() {
  for (const Death& death : std::vector<Death>(deaths_)) {
    if (!recovered(death)) continue;
    trace.line("-", "node", "life {} is recovered", death.life);
    ++report.recoveries;
    objects.end_death(death.life);
    lock_watch.forget(death.life);
    over_.insert(death.life);
    std::erase_if(deaths_, [&death](const Death& one) { return one.life == death.life; });
  }
}

/// Until there is a view without the dead; where that may have changed something, until its journal was replayed, which
/// nodes learn one after the other: the lock's master may know earlier than who asks.
bool Simulation::still_stands(LifeId asking, LifeId held_by, GlockMode mode) const {
  Host* host = host_of(asking);
  // Who asks may be dead itself and not know it yet: then nothing holds for it.
  if (host == nullptr || dead_.contains(asking)) return false;
  if (!dead_.contains(held_by)) return true;
  const auto member = members_.find(held_by);
  if (member == members_.end()) return true;
  const bool may_have_changed = mode != GlockMode::shared;
  return std::ranges::none_of(hosts, [&](const auto& one) {
    // A member, perhaps one that still mounts.
    if (!one->has_mount() || one->mount().node == nullptr || one->state() == Host::State::lost) return false;
    ClusterNode& node = *one->mount().node;
    if (node.membership() == nullptr || !node.membership()->core().view().contains(node.self())) return false;
    return !node.lock_manager().view().contains(member->second) &&
           !(may_have_changed && node.unrecovered().contains(member->second));
  });
}

Task<void> Simulation::watch_recoveries() {
  for (;;) {
    co_await time.executor.sleep_for(100ms);
    end_deaths();
  }
}

/// The administrator of all nodes: who is down comes up again after a while.
Task<void> Simulation::supervise() {
  std::map<Host*, Duration> patience;
  for (;;) {
    co_await time.executor.sleep_for(50ms);
    for (auto& host : hosts) {
      const Duration waited = time.clock.now() - host->since();
      auto [limit, fresh] = patience.try_emplace(host.get(), random.between(100, 6000) * 1ms);
      if (host->state() == Host::State::lost && waited > 300ms) {
        host->kill(Host::Death::process);
      } else if (host->state() == Host::State::down && (waited > limit->second || !prepared_)) {
        patience.erase(limit);
        host->boot();
      }
    }
  }
}

bool Simulation::all_up() const {
  return std::ranges::all_of(hosts, [](const auto& host) { return host->state() == Host::State::up; });
}

namespace {

Task<Result<>> make_objects(SharedObjects& objects, Operations& operations, BlockNo root, std::uint32_t files) {
  NewNode directory;
  directory.mode = S_IFDIR | 0755;
  NewNode regular;
  regular.mode = S_IFREG | 0644;
  CO_TRY(const Entry top, co_await operations.create(root, "shared", directory, Caller{}));
  objects.top = top.attributes.inode;
  constexpr std::uint32_t kSlotBytes[] = {4096, 64, 1000, 20'000, 512, 8192};
  for (std::uint32_t i = 0; i < files; ++i) {
    SharedFile file;
    file.name = fmt::format("file{}", i);
    file.slot_bytes = kSlotBytes[i % std::size(kSlotBytes)];
    CO_TRY(const Entry made, co_await operations.create(objects.top, file.name, regular, Caller{}));
    file.inode = made.attributes.inode;
    objects.files.push_back(std::move(file));
  }
  for (std::uint32_t i = 0; i < 2; ++i) {
    SharedDirectory one{.name = fmt::format("directory{}", i), .inode = {}, .history = {}};
    CO_TRY(const Entry made, co_await operations.create(objects.top, one.name, directory, Caller{}));
    one.inode = made.attributes.inode;
    objects.directories.push_back(std::move(one));
  }
  co_return co_await operations.sync();
}

}  // namespace

void Simulation::prepare() {
  if (!run_until(kPatience, [this] { return all_up(); })) return fail_run("not all nodes could mount at the beginning");
  std::optional<Result<>> done;
  auto make = [](Simulation& simulation, std::optional<Result<>>& out) -> Task<void> {
    Host& host = *simulation.hosts.front();
    out = co_await make_objects(simulation.objects, host.mount().operations(), host.mount().root(),
                                simulation.swarm.files);
  };
  hosts.front()->work().spawn(make(*this, done));
  run_until(kPatience, [&] { return done.has_value(); });
  if (!done) return fail_run("the shared files could not be made");
  if (!*done) return fail_run("the shared files could not be made: " + done->error().describe());
  prepared_ = true;
}

void Simulation::work() {
  faults_ = std::make_unique<Faults>(*this);
  for (auto& host : hosts)
    host->start_clients();
  faults_->begin();
  run_until(end_ > time.clock.now() ? end_ - time.clock.now() : Duration{}, [] { return false; });
}

/// Everything is healed: all work must come to its end, and all nodes must come back.
void Simulation::settle() {
  trace.line("-", "run", "everything is healed");
  faults_ended_ = true;
  faults_->end();
  for (auto& host : hosts)
    host->wind_down();
  const bool settled = run_until(kPatience, [this] {
    return all_up() && deaths_.empty() && std::ranges::all_of(hosts, [](const auto& host) {
             host->wind_down();
             return host->idle();
           });
  });
  if (settled || failed()) return;
  fail_run(all_up() ? "somebody waits for ever" : "not all nodes came back");
}

void Simulation::say_who_waits() {
  for (auto& host : hosts) {
    trace.line(host->name(), "state", "state {}, idle {}", static_cast<int>(host->state()), host->idle());
    if (!host->has_mount()) continue;
    if (host->mount().filesystem) {
      for (const std::string& line : host->filesystem().glocks().waiting())
        trace.line(host->name(), "waits", "{}", line);
    }
    // Before it has a slot a node has no lock manager.
    const auto* node = host->mount().node.get();
    if (node != nullptr && node->self() != Member{})
      trace.line(host->name(), "locks", "{}", host->mount().node->lock_manager().dump().text());
  }
}

void Simulation::last_look() {
  auto look = [](Simulation& simulation, Host& host, std::uint64_t seed) -> Task<void> {
    User user(simulation, host, Random(seed));
    co_await user.look_at_everything();
  };
  for (auto& host : hosts)
    host->work().spawn(look(*this, *host, random.next()));
  wait_for([this] { return std::ranges::all_of(hosts, [](const auto& host) { return host->idle(); }); },
           "the last look at everything does not end");
  if (!failed()) check_private_trees(*this);
}

void Simulation::unmount_all() {
  background_.reset();
  for (auto& host : hosts)
    host->leave();
  const auto has_gone = [](const auto& host) { return host->state() != Host::State::leaving; };
  wait_for([this, has_gone] { return std::ranges::all_of(hosts, has_gone); }, "unmounting does not end");
  for (auto& host : hosts) {
    if (!over_.contains(host->life())) fail_run(fmt::format("node {} could not unmount", host->name()));
  }
}

void Simulation::judge() {
  if (auto wrong = objects.judge(report.undecided)) fail_run(*wrong);
  if (failed()) return;
  if (auto wrong = check_clean_volume(disk.contents(), random.chance(1, 50))) fail_run(*wrong);
}

void Simulation::examine_cut() {
  const PowerCut::Unstable fates[] = {PowerCut::Unstable::random, PowerCut::Unstable::lost, PowerCut::Unstable::landed};
  ++report.cuts_examined;
  const auto fate = fates[random.below(3)];
  trace.line("-", "judge", "what would a power cut leave");
  if (auto wrong = check_crashed_volume(disk.after_cut_now(fate, random.next()), random)) {
    fail_run("a power cut now would leave a damaged volume: " + *wrong);
  }
}

Task<void> Simulation::examine_now_and_then() {
  // Some seconds apart: it takes as long as some seconds of the run.
  for (;;) {
    co_await time.executor.sleep_for(random.between(5000, 40'000) * 1ms);
    if (!failed()) examine_cut();
  }
}

SimulationReport Simulation::run() {
  const Time begin = time.clock.now();
  end_ = begin + options_.time;
  trace.line("-", "run", "seed {}, {} nodes: {}", options_.seed, hosts.size(), swarm.describe());
  background_->spawn(supervise());
  background_->spawn(watch_recoveries());
  for (auto& host : hosts)
    host->boot();
  void (Simulation::* const phases[])() = {&Simulation::prepare,   &Simulation::work,        &Simulation::settle,
                                           &Simulation::last_look, &Simulation::unmount_all, &Simulation::judge};
  {
    VolumeMap map(disk.contents());
    disk_watch.set_journals(map.journals, map.block_shift);
  }
  background_->spawn(examine_now_and_then());
  for (const auto phase : phases) {
    if (!failed()) (this->*phase)();
  }
  report.trace_hash = trace.hash();
  report.trace_lines = trace.lines();
  report.disk_writes = disk_watch.writes();
  report.messages = network.delivered();
  report.virtual_time = time.clock.now() - begin;
  return report;
}

}  // namespace corral::sim
