/// A cluster of nodes in one process under virtual time: one disk with reservation keys, one network, nodes that can
/// die, be paused and come back. Checks after every step that no two views serve, and that the dead are fenced.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/membership.h"
#include "cluster/simulated_network.h"
#include "disk/simulated_device.h"
#include "test/support/manual_clock.h"
#include "test/support/simulated_links.h"

namespace corral::test {

using namespace std::chrono_literals;
using cluster::Membership;
using cluster::MembershipEnded;
using cluster::ViewInstalled;

/// What the disk knows of keys, and what is on its way to it.
struct SharedDisk {
  std::set<std::uint64_t> keys;
  std::map<std::uint64_t, std::uint32_t> in_flight;  ///< per key
};

/// A node's way to the disk. Operations go on while the node is paused; its coroutines learn of it afterwards.
class NodeDevice final : public Device {
 public:
  NodeDevice(Executor& node, Executor& world, SharedDisk& shared, SimulatedDevice& device)
      : node_(node), world_(world), shared_(shared), device_(device), scope_(world) {}

  std::uint64_t key = 0;  ///< this nexus's registration
  /// Added to every operation, on its way to the disk.
  Duration delay{};

  const std::string& name() const override { return device_.name(); }
  const DeviceGeometry& geometry() const override { return device_.geometry(); }
  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset, std::span<const ReadSpan> spans) override {
    // The waiting frame may go while the disk still reads.
    std::size_t bytes = 0;
    for (ReadSpan span : spans)
      bytes += span.size();
    auto buffer = std::make_shared<AlignedBuffer>(bytes);
    auto done = std::make_shared<Completion<Result<>>>(node_);
    scope_.spawn(read_there(offset, buffer, done));
    const std::vector<ReadSpan> kept(spans.begin(), spans.end());
    const Result<> result = co_await done->wait();
    std::size_t at = 0;
    for (ReadSpan span : kept) {
      std::ranges::copy(buffer->span().subspan(at, span.size()), span.begin());
      at += span.size();
    }
    co_return result;
  }
  Task<Result<>> write(std::uint64_t offset, std::span<const WriteSpan> spans, WriteMode mode) override {
    auto buffer = std::make_shared<AlignedBuffer>(spans.front().size());
    CHECK_INVARIANT(spans.size() == 1);
    std::ranges::copy(spans.front(), buffer->span().begin());
    auto done = std::make_shared<Completion<Result<>>>(node_);
    scope_.spawn(write_there(offset, buffer, mode, done));
    co_return co_await done->wait();
  }
  Task<Result<>> flush() override { co_return Result<>{}; }
  Task<Result<>> discard(std::uint64_t, std::uint64_t) override { co_return fail(EOPNOTSUPP); }

 private:
  using Done = std::shared_ptr<Completion<Result<>>>;
  Task<void> read_there(std::uint64_t offset, std::shared_ptr<AlignedBuffer> buffer, Done done) {
    if (delay > Duration{}) co_await world_.sleep_for(delay);
    done->set(co_await device_.read(offset, buffer->span()));
  }
  Task<void> write_there(std::uint64_t offset, std::shared_ptr<AlignedBuffer> buffer, WriteMode mode, Done done) {
    if (delay > Duration{}) co_await world_.sleep_for(delay);
    const std::uint64_t used = key;
    if (!shared_.keys.contains(used)) {
      done->set(fail_device(EBADE, "simulated: reservation conflict"));
      co_return;
    }
    ++shared_.in_flight[used];
    Result<> result = co_await device_.write(offset, buffer->span(), mode);
    --shared_.in_flight[used];
    done->set(std::move(result));
  }

  Executor& node_;
  Executor& world_;
  SharedDisk& shared_;
  SimulatedDevice& device_;
  Scope scope_;
};

class NodeFencer final : public cluster::Fencer {
 public:
  NodeFencer(Executor& node, SharedDisk& shared, NodeDevice& device, std::uint64_t seed)
      : executor_(node), shared_(shared), device_(device), random_(seed) {}

  /// As keys of reservations are.
  static std::uint64_t key(Member member) {
    return Random(member.incarnation.value * 64 + member.node.value).next() &
           ~(cluster::kWayHighBit | cluster::kWayLowBit);
  }
  std::uint64_t key_of(Member member) const override { return key(member); }
  Task<Result<>> admit(Member self) override {
    co_await latency();
    shared_.keys.erase(device_.key);
    device_.key = key(self);
    shared_.keys.insert(device_.key);
    co_return Result<>{};
  }
  Task<Result<>> fence(Member victim) override {
    co_await latency();
    if (failing) co_return fail_device(EIO, "simulated: fencing fails");
    if (!shared_.keys.contains(device_.key)) co_return fail_device(EBADE, "simulated: reservation conflict");
    shared_.keys.erase(key(victim));
    // PREEMPT AND ABORT: nothing of the victim's is in flight afterwards.
    while (shared_.in_flight[key(victim)] != 0)
      co_await executor_.sleep_for(1ms);
    co_await latency();
    co_return Result<>{};
  }
  Task<Result<>> leave(bool) override {
    shared_.keys.erase(device_.key);
    co_return Result<>{};
  }
  bool failing = false;

 private:
  Task<void> latency() { co_await executor_.sleep_for(std::chrono::milliseconds(random_.between(1, 30))); }
  Executor& executor_;
  SharedDisk& shared_;
  NodeDevice& device_;
  Random random_;
};

struct ClusterOptions {
  std::uint64_t seed = 1;
  std::uint32_t nodes = 3;
  std::uint32_t journals = 8;
  cluster::Settings settings{};
  SimulatedLatency latency{.least = 100us, .most = 5ms};
};

class SimulatedCluster {
 public:
  explicit SimulatedCluster(ClusterOptions options);
  ~SimulatedCluster();

  ManualClock clock;
  Executor world{clock};
  ClusterOptions options;
  Random random;
  SimulatedDisk disk;
  SharedDisk shared;
  SimulatedNetwork network;
  cluster::Header header;

  struct Node final : cluster::MembershipUser {
    Node(SimulatedCluster& cluster, std::uint32_t index);
    void view_installed(const ViewInstalled& event) override;
    void recover(Member dead) override;
    void node_recovered(Member gone) override;
    void ended(const MembershipEnded& event) override;
    void lease_renewed() override {}
    Task<void> replay(Member dead);
    Task<void> replay_all();

    SimulatedCluster& cluster;
    std::uint32_t index;
    std::string name;
    Executor executor;
    SimulatedDevice device;
    NodeDevice path;
    NodeFencer fencer;
    SimulatedLinks links;
    bool paused = false;
    bool rejoin = true;
    std::uint32_t protocol_version = cluster::kProtocolVersion;
    std::uint8_t health = 100;
    std::optional<MembershipEnded> end;
    std::vector<View> views;
    std::set<Member> not_recovered;
    std::set<Member> handed_over;  ///< for recovery, to this life
    bool coming = true;            ///< no view yet in this life
    bool replaying_all = false;    ///< as the first member
    Scope scope;
    std::unique_ptr<Membership> membership;
    bool serves() const { return membership && !paused && membership->may_serve(); }
    Member self() const { return membership->core().self(); }
    bool is_member() const {
      return membership && membership->core().phase() == cluster::MembershipCore::Phase::member;
    }
  };
  SimulatedLinks::Ends ends;
  std::map<std::uint64_t, std::vector<Member>> installed;  ///< views by number, of all nodes
  std::set<Member> declared_dead;
  std::set<Member> left;
  std::string broken;  ///< the first invariant that did not hold
  std::vector<std::unique_ptr<Node>> nodes;

  Node& node(std::uint32_t index) { return *nodes.at(index); }
  /// Begins a new life of the node.
  void start(std::uint32_t index);
  /// Its process, or (`silent`) its host, is gone: reservations stay, writes in flight may land.
  void kill(std::uint32_t index, bool silent = false);
  /// From its word on it uses nothing any more, even if it dies before it is out of the view.
  void leave(std::uint32_t index) {
    left.insert(node(index).self());
    node(index).membership->leave();
  }
  void pause(std::uint32_t index) { node(index).paused = true; }
  void resume(std::uint32_t index) { node(index).paused = false; }
  /// Messages from nodes of the one group to the other are lost, and back if `both`.
  void split(std::vector<std::uint32_t> from, std::vector<std::uint32_t> to, bool both = true);

  void run_for(Duration duration);
  /// Runs until the condition holds; false if it does not within the time.
  bool run_until(Duration limit, const std::function<bool()>& condition);
  /// These nodes and no others are members of one view, and serve.
  bool agreed(std::vector<std::uint32_t> indexes) const;
  std::string describe() const;

 private:
  bool step(Time limit);
  void check();
  void require(bool holds, const std::string& what);
  void check_view(const View& view, const std::vector<Member>& gone);
};

}  // namespace corral::test
