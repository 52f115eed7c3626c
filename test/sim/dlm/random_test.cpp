// Random operations of many users on two to eight nodes, checked against a model, while nodes die, leave and join,
// links break and partitions come and go. CORRAL_SEED replays one seed, CORRAL_SEEDS says how many are tried.
#include <cstdlib>
#include <deque>

#include "test/sim/dlm/cluster.h"
#include "test/sim/dlm/lock_model.h"
#include "test/support/catch.h"
#include "test/support/environment.h"

using namespace corral;
using namespace corral::dlm;
using namespace corral::dlm::test;
using namespace std::chrono_literals;

namespace {

constexpr LockspaceId kSpace{1};

struct Plan {
  explicit Plan(Random& random)
      : nodes(static_cast<std::uint32_t>(random.between(2, 8))),
        users_per_node(static_cast<int>(random.between(1, 6))),
        resources(static_cast<int>(random.between(1, 12))),
        faults(random.chance(4, 5)) {}
  std::uint32_t nodes;
  int users_per_node;
  int resources;
  bool faults;
};

/// The whole of one run.
class Run {
 public:
  explicit Run(std::uint64_t seed)
      : random_(seed),
        plan_(random_),
        cluster_(seed ^ 0x5EED, network_options()),
        model_(plan_.resources),
        wish_for_view_(cluster_.executor),
        oracle_(cluster_.executor) {
    if (random_.chance(1, 3)) cluster_.limits.operations_in_flight = random_.between(1, 4);
    if (random_.chance(1, 3)) cluster_.limits.unused_resources = random_.below(4);
    cluster_.network.on_disconnect = [this](Member end, Member peer) { disconnected(end, peer); };
    cluster_.network.on_delivery = [this](const Delivery& delivery) { trace(delivery); };
    for (std::uint32_t i = 0; i < plan_.nodes; ++i)
      start(i);
    oracle_.spawn(decide_on_views());
    ask_for_view();
  }
  ~Run() { cluster_.network.on_disconnect = nullptr; }

  /// A busy time with faults, then peace: everybody has to come to an end.
  void play() {
    const Time end = cluster_.clock.now() + 2s;
    while (cluster_.clock.now() < end && model_.failures.empty()) {
      cluster_.run_for(std::chrono::microseconds(random_.between(100, 40'000)));
      if (plan_.faults) disturb();
    }
    stopping_ = true;
    cluster_.network.heal_all();
    for (Member dead : std::exchange(unrecovered_, {}))
      announce_recovered(dead);
    const bool ended = cluster_.run_until([this] { return nobody_works(); }, cluster_.clock.now() + 120s);
    if (ended) return;
    model_.failures.push_back("somebody waits for ever");
    for (const auto& [id, node] : cluster_.nodes())
      model_.failures.push_back(node->manager.dump().text());
  }

  std::vector<std::string> failures() const {
    auto all = model_.failures;
    all.insert(all.end(), cluster_.log.lines.begin(), cluster_.log.lines.end());
    return all;
  }
  std::uint64_t trace_hash() const { return trace_hash_; }
  const LockModel& model() const { return model_; }
  std::uint64_t views() const { return views_; }
  std::uint64_t messages() const { return cluster_.messages(); }

 private:
  static SimulatedNetworkOptions network_options() {
    SimulatedNetworkOptions options;
    options.stall_timeout = 60ms;
    options.reconnect_delay = 3ms;
    return options;
  }

  /// Told that its lock is in the way: wakes the user who holds it.
  struct Listener final : LockListener {
    explicit Listener(Executor& executor) : asked(executor) {}
    void blocking(Lock&, Mode) override { asked.notify_all(); }
    Signal asked;
  };

  void start(std::uint32_t number) {
    Node& node = cluster_.start(number);
    for (int i = 0; i < plan_.users_per_node; ++i)
      node.users.spawn(use(*this, node, User{node.member, i}, random_.split()));
  }

  static ResourceName name_of(int resource) { return ResourceName(kSpace, fmt::format("r{}", resource)); }

  /// A user's life: one lock at a time, taken, converted a few times, given up.
  static Task<void> use(Run& run, Node& node, User user, Random random) {
    ++run.working_[user];
    while (!run.stopping_) {
      const int resource = static_cast<int>(random.below(static_cast<std::uint64_t>(run.plan_.resources)));
      {
        Listener listener(run.cluster_.executor);
        Lock lock(node.manager, name_of(resource), &listener);
        for (auto steps = random.between(1, 5); steps > 0; --steps) {
          co_await step(run, lock, resource, user, random);
          if (!lock.granted()) break;
          // Holds it for a while, less long when asked.
          const Time until = run.cluster_.clock.now() + std::chrono::microseconds(random.between(0, 3000));
          co_await listener.asked.wait_until(until);
        }
        co_await give_up(run, lock, resource, user, random);
      }
      co_await run.cluster_.executor.sleep_for(std::chrono::microseconds(random.between(1, 2000)));
    }
    run.working_.erase(user);
  }

  static Mode random_mode(Random& random) { return kAllModes[random.below(kModes)]; }

  static Task<void> step(Run& run, Lock& lock, int resource, User user, Random& random) {
    const auto before = lock.granted();
    const Mode mode = random_mode(random);
    LockFlags flags;
    flags.value = true;
    flags.no_queue = random.chance(1, 8);
    flags.no_queue_blocking = random.chance(1, 2);
    flags.no_order = random.chance(1, 16);
    if (before) {
      flags.queue_convert = random.chance(1, 2);
      flags.demote_on_deadlock = random.chance(1, 3);
    } else if (mode == Mode::null) {
      flags.expedite = random.chance(1, 2);
    }
    ValueBytes written{};
    if (before && value_transfer(before, mode) == ValueTransfer::write)
      written = run.model_.write(resource, run.settled());
    if (before) run.model_.relies_on(resource, user, flags.demote_on_deadlock ? Mode::null : meet(*before, mode));
    Scope canceller(run.cluster_.executor);
    if (random.chance(1, 6))
      canceller.spawn(cancel_later(run, lock, std::chrono::microseconds(random.between(0, 1500))));
    auto result = co_await lock.acquire(mode, flags, written);
    if (!result) {
      check_refusal(run, lock, resource, user, before, result.error().code());
      co_return;
    }
    run.model_.granted(resource, user, mode);
    if (value_transfer(before, mode) == ValueTransfer::read) run.model_.read(resource, user, mode, lock.value());
  }

  static void check_refusal(Run& run, const Lock& lock, int resource, User user, std::optional<Mode> before,
                            int error) {
    if (error != EAGAIN && error != EDEADLK && error != ECANCELED && error != ESHUTDOWN)
      run.model_.failures.push_back(fmt::format("an operation failed with {}", Error(error).describe()));
    if (lock.granted().has_value() != before.has_value())
      run.model_.failures.push_back("a refusal took the lock away, or gave one");
    if (lock.granted()) run.model_.granted(resource, user, *lock.granted());
  }

  static Task<void> cancel_later(Run& run, Lock& lock, Duration delay) {
    co_await run.cluster_.executor.sleep_for(delay);
    lock.cancel();
  }

  static Task<void> give_up(Run& run, Lock& lock, int resource, User user, Random& random) {
    const auto before = lock.granted();
    if (!before) co_return;
    LockFlags flags;
    flags.value = random.chance(1, 2);
    ValueBytes written{};
    if (flags.value && value_transfer(before, std::nullopt) == ValueTransfer::write)
      written = run.model_.write(resource, run.settled());
    run.model_.relies_on(resource, user, std::nullopt);
    (void)co_await lock.release(flags, written);
  }

  // Faults.

  void disturb() {
    const auto living = living_nodes();
    const std::uint32_t one = living[random_.below(living.size())];
    const std::uint32_t other = living[random_.below(living.size())];
    switch (random_.below(12)) {
      case 0:
        if (living.size() > 1) kill(one, random_.chance(1, 2));
        break;
      case 1:
      case 2:
        for (std::uint32_t number = 0; number < plan_.nodes; ++number) {
          if (cluster_.find(number) == nullptr && waits_for_replay(number) == false) {
            start(number);
            ask_for_view();
            break;
          }
        }
        break;
      case 3:
        if (one != other) cluster_.network.break_connection(NodeId(one), NodeId(other));
        break;
      case 4:
        if (one != other) cluster_.network.cut(NodeId(one), NodeId(other));
        break;
      case 5:
        cluster_.network.heal_all();
        break;
      case 6:
      case 7:
        if (!unrecovered_.empty()) {
          announce_recovered(unrecovered_.front());
          unrecovered_.pop_front();
        }
        break;
      case 8:
        ask_for_view();
        break;
      default:
        break;
    }
  }

  std::vector<std::uint32_t> living_nodes() const {
    std::vector<std::uint32_t> numbers;
    for (const auto& [id, node] : cluster_.nodes())
      numbers.push_back(id.value);
    return numbers;
  }
  bool waits_for_replay(std::uint32_t number) const {
    return std::ranges::any_of(cluster_.unrecovered, [&](Member dead) { return dead.node.value == number; });
  }

  void kill(std::uint32_t number, bool silent) {
    const Member member = cluster_.node(number).member;
    cluster_.kill(number, silent);
    forget_users(member);
    model_.ended(member, false);
    ask_for_view();
    if (stopping_) {
      announce_recovered(member);
    } else {
      unrecovered_.push_back(member);
    }
  }
  void forget_users(Member member) {
    std::erase_if(working_, [&](const auto& entry) { return entry.first.node == member; });
  }

  /// The journal counts as replayed only when every member knows of the death.
  void announce_recovered(Member dead) { oracle_.spawn(recover(*this, dead)); }
  static Task<void> recover(Run& run, Member dead) {
    while (run.last_view_.contains(dead) || run.view_wanted_)
      co_await run.cluster_.executor.sleep_for(1ms);
    run.model_.recovered(dead);
    run.cluster_.announce_recovered(dead, [&run] { return run.delay(); });
  }

  Duration delay() { return std::chrono::microseconds(random_.between(0, 5000)); }

  // Membership.

  void ask_for_view() {
    view_wanted_ = true;
    wish_for_view_.notify_all();
  }

  void disconnected(Member end, Member peer) {
    broken_.emplace_back(end, peer);
    ask_for_view();
  }

  /// Every break between two that live is followed by a new view; one of two that cannot hear each other has to go.
  Task<void> decide_on_views() {
    for (;;) {
      while (!view_wanted_)
        co_await wish_for_view_.wait();
      co_await cluster_.executor.sleep_for(std::chrono::milliseconds(random_.between(1, 15)));
      for (auto [end, peer] : std::exchange(broken_, {})) {
        const bool both_live = cluster_.living(end) != nullptr && cluster_.living(peer) != nullptr;
        if (both_live && random_.chance(1, 3)) kill(std::max(end, peer).node.value, random_.chance(1, 2));
      }
      view_wanted_ = false;
      ++views_;
      last_view_ = cluster_.next_view();
      cluster_.announce(last_view_, [this] { return delay(); });
    }
  }

  /// Everybody runs in a view without the dead.
  bool settled() const { return !view_wanted_ && cluster_.all_running(); }
  bool nobody_works() const { return working_.empty(); }

  void trace(const Delivery& delivery) {
    auto mix = [this](std::uint64_t number) { trace_hash_ = (trace_hash_ ^ number) * 0x100000001B3u; };
    mix(static_cast<std::uint64_t>(cluster_.clock.now().time_since_epoch().count()));
    mix(delivery.from.node.value);
    mix(delivery.to.node.value);
    for (std::byte byte : delivery.message)
      mix(static_cast<std::uint64_t>(byte));
  }

  Random random_;
  Plan plan_;
  std::map<User, int> working_;
  Cluster cluster_;
  LockModel model_;
  std::deque<Member> unrecovered_;
  std::vector<std::pair<Member, Member>> broken_;
  View last_view_;
  bool stopping_ = false;
  bool view_wanted_ = false;
  Signal wish_for_view_;
  Scope oracle_;
  std::uint64_t views_ = 0;
  std::uint64_t trace_hash_ = 0xCBF29CE484222325u;
};

}  // namespace

TEST_CASE("random operations while membership changes agree with the model") {
  const std::uint64_t first = corral::test::number_from_environment("CORRAL_SEED", 1);
  const bool only_one = std::getenv("CORRAL_SEED") != nullptr;
  const std::uint64_t count = only_one ? 1 : corral::test::number_from_environment("CORRAL_SEEDS", 150);
  std::uint64_t grants = 0;
  std::uint64_t views = 0;
  std::uint64_t invalid_reads = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    Run run(seed);
    run.play();
    std::string report;
    for (const std::string& failure : run.failures())
      report += failure + "\n";
    INFO("replay with CORRAL_SEED=" << seed << "\n" << report);
    REQUIRE(report.empty());
    grants += run.model().grants;
    views += run.views();
    invalid_reads += run.model().invalid_reads;
  }
  // The runs did what they are for.
  if (count >= 100) {
    CHECK(grants > 100 * count);
    CHECK(views > 3 * count);
    CHECK(invalid_reads > 0);
  }
}

TEST_CASE("the same seed gives the same run") {
  for (std::uint64_t seed : {3u, 17u, 101u}) {
    std::uint64_t hashes[2];
    for (std::uint64_t& hash : hashes) {
      Run run(seed);
      run.play();
      hash = run.trace_hash() ^ run.messages();
    }
    CHECK(hashes[0] == hashes[1]);
  }
}
