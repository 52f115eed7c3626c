#include "test/support/simulated_cluster.h"

#include <fmt/format.h>

#include "test/support/catch.h"

namespace corral::test {

using cluster::ClusterArea;

namespace {

NullLogSink& no_log() {
  static NullLogSink sink;
  return sink;
}

DiskImage area_image(const cluster::Header& header) {
  DiskImage image(cluster::kAreaBytes);
  image.write(0, ClusterArea::new_contents(header).span());
  return image;
}

cluster::Header header_of(const ClusterOptions& options) {
  cluster::Header header{.settings = options.settings};
  header.cluster[0] = 0x77;
  return header;
}

}  // namespace

SimulatedCluster::SimulatedCluster(ClusterOptions chosen)
    : options(chosen),
      random(chosen.seed),
      disk(area_image(header_of(chosen))),
      network(world, random.next()),
      header(header_of(chosen)) {
  clock.advance_to(Time(1h));
  for (std::uint32_t i = 0; i < options.nodes; ++i)
    nodes.push_back(std::make_unique<Node>(*this, i));
}

SimulatedCluster::~SimulatedCluster() {
  for (auto& one : nodes)
    one->membership.reset();
  // The memory of operations in flight belongs to the ways to the disk, which go before the disk does.
  clock.run_until(world, [this] {
    return std::ranges::all_of(nodes, [](const auto& one) { return one->device.in_flight() == 0; });
  });
}

SimulatedCluster::Node::Node(SimulatedCluster& in, std::uint32_t number)
    : cluster(in),
      index(number),
      name(fmt::format("node-{}", number)),
      executor(in.clock),
      device(in.world, in.disk, in.random.next(),
             {.name = name, .read_latency = in.options.latency, .write_latency = in.options.latency}),
      path(executor, in.world, in.shared, device),
      fencer(executor, in.shared, path, in.random.next()),
      links(executor, in.network, in.ends),
      scope(executor) {}

void SimulatedCluster::Node::view_installed(const ViewInstalled& event) {
  views.push_back(event.view);
  for (Member member : event.gone)
    not_recovered.insert(member);
  // Whom a node finds gone when it comes need not be fenced yet.
  const bool comes = std::exchange(coming, false);
  cluster.check_view(event.view, comes ? std::vector<Member>{} : event.gone);
  if (event.first) scope.spawn(replay_all());
}

/// Until it is done nobody else may be let in.
Task<void> SimulatedCluster::Node::replay_all() {
  replaying_all = true;
  const Member life = self();
  const Duration takes = std::chrono::milliseconds(cluster.random.below(2000));
  co_await executor.sleep_for(takes);
  if (!membership || self() != life) co_return;
  replaying_all = false;
  membership->journals_replayed();
}

void SimulatedCluster::Node::recover(Member dead) {
  cluster.require(!cluster.shared.keys.contains(NodeFencer::key(dead)),
                  name + " recovers one that is not fenced: " + dead.describe());
  cluster.require(handed_over.insert(dead).second, name + " recovers one for the second time: " + dead.describe());
  cluster.declared_dead.insert(dead);
  scope.spawn(replay(dead));
}

Task<void> SimulatedCluster::Node::replay(Member dead) {
  const Duration takes = std::chrono::milliseconds(cluster.random.below(2000));
  co_await executor.sleep_for(takes);
  if (membership) membership->recovered(dead);
}

void SimulatedCluster::Node::node_recovered(Member gone) {
  not_recovered.erase(gone);
}

void SimulatedCluster::Node::ended(const MembershipEnded& event) {
  end = event;
}

void SimulatedCluster::start(std::uint32_t index) {
  Node& one = node(index);
  one.membership.reset();
  one.end.reset();
  one.not_recovered.clear();
  one.handed_over.clear();
  one.coming = true;
  one.replaying_all = false;
  cluster::NodeOptions node_options{.name = one.name,
                                    .health = one.health,
                                    .journals = options.journals,
                                    .incarnation = cluster::new_incarnation(clock.wall(), random),
                                    .protocol_version = one.protocol_version};
  one.membership = std::make_unique<Membership>(
      Membership::Environment{one.executor, ClusterArea(one.path, 0), one.fencer, one.links, one, Logger(no_log())},
      header, node_options, random.split());
}

void SimulatedCluster::kill(std::uint32_t index, bool silent) {
  Node& one = node(index);
  one.membership.reset();
  one.links.drop(silent);
  one.paused = false;
}

void SimulatedCluster::split(std::vector<std::uint32_t> from, std::vector<std::uint32_t> to, bool both) {
  for (std::uint32_t a : from) {
    for (std::uint32_t b : to) {
      network.cut(node(a).self().node, node(b).self().node);
      if (both) network.cut(node(b).self().node, node(a).self().node);
    }
  }
}

/// Kept for the loop to report: a failure must not be thrown through coroutines.
void SimulatedCluster::require(bool holds, const std::string& what) {
  if (!holds && broken.empty()) broken = describe() + " " + what;
}

/// One life of each member a view at a time, the same members under the same number; whoever is gone is fenced.
void SimulatedCluster::check_view(const View& view, const std::vector<Member>& gone) {
  auto [same, fresh] = installed.try_emplace(view.number.value, view.members);
  require(same->second == view.members, fmt::format("two views have the number {}", view.number.value));
  for (const auto& one : nodes) {
    const bool replays = one->membership && one->replaying_all && view.contains(one->self());
    require(!replays || view.members.size() == 1, "others are let in while " + one->name + " replays every journal");
  }
  for (Member member : gone) {
    // Who leaves orderly has nothing to lose: it said itself that it uses nothing any more.
    const bool fenced = !shared.keys.contains(NodeFencer::key(member));
    require(fenced || left.contains(member), "gone without being fenced: " + member.describe());
    if (fenced && !left.contains(member)) declared_dead.insert(member);
  }
}

void SimulatedCluster::check() {
  if (!broken.empty()) FAIL(broken);
  if (installed.empty()) return;
  const auto& [newest, members] = *installed.rbegin();
  for (const auto& one : nodes) {
    if (!one->serves()) continue;
    if (!std::ranges::count(members, one->self())) {
      FAIL(describe() << " " << one->name << " serves, and is not in view " << newest);
    }
    if (declared_dead.contains(one->self())) FAIL(describe() << " " << one->name << " serves after its death");
  }
  for (const auto& one : nodes) {
    if (!one->end || one->end->why == MembershipEnded::Why::refused) continue;
    if (one->end->why == MembershipEnded::Why::lost && one->rejoin && !one->paused) start(one->index);
  }
}

bool SimulatedCluster::step(Time limit) {
  bool ran = world.run_ready(1) > 0;
  for (auto& one : nodes) {
    if (!one->paused) ran |= one->executor.run_ready(1) > 0;
  }
  if (ran) return true;
  std::optional<Time> due = world.next_timer();
  for (auto& one : nodes) {
    const auto timer = one->executor.next_timer();
    if (!one->paused && timer && (!due || *timer < *due)) due = timer;
  }
  if (!due || *due > limit) {
    clock.advance_to(limit);
    return false;
  }
  if (*due > clock.now()) clock.advance_to(*due);
  world.fire_timers();
  for (auto& one : nodes) {
    if (!one->paused) one->executor.fire_timers();
  }
  return true;
}

void SimulatedCluster::run_for(Duration duration) {
  run_until(duration, [] { return false; });
}

bool SimulatedCluster::run_until(Duration limit, const std::function<bool()>& condition) {
  const Time end = clock.now() + limit;
  while (!condition()) {
    const bool more = step(end);
    check();
    if (!more) return condition();
    disk.forget_history();
  }
  return true;
}

bool SimulatedCluster::agreed(std::vector<std::uint32_t> indexes) const {
  std::vector<Member> members;
  for (std::uint32_t index : indexes) {
    if (!nodes[index]->is_member()) return false;
    members.push_back(nodes[index]->self());
  }
  std::ranges::sort(members);
  return std::ranges::all_of(indexes, [&](std::uint32_t index) {
    const Node& one = *nodes[index];
    const View& view = one.membership->core().view();
    return view.members == members && view.number == nodes[indexes.front()]->membership->core().view().number &&
           one.serves() && one.not_recovered.empty();
  });
}

std::string SimulatedCluster::describe() const {
  std::string text =
      fmt::format("seed {} at {:.3f} s:", options.seed, std::chrono::duration<double>(clock.now() - Time(1h)).count());
  for (const auto& one : nodes) {
    if (!one->membership) {
      text += fmt::format(" [{} dead]", one->name);
      continue;
    }
    const auto& core = one->membership->core();
    text +=
        fmt::format(" [{} slot {} phase {} view {} of {}{}{}{}{}{}]", one->name, core.self().node.value,
                    static_cast<int>(core.phase()), core.view().number.value, core.view().members.size(),
                    one->serves() ? " serves" : "", core.is_leader() ? " leads" : "", one->paused ? " paused" : "",
                    one->not_recovered.empty() ? "" : fmt::format(" misses {}", one->not_recovered.begin()->describe()),
                    one->end ? " " + one->end->reason.describe() : "");
  }
  return text;
}

}  // namespace corral::test
