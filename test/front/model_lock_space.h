/// A lock manager for several nodes in one process, for tests: one master for all names, messages that take a random
/// time under the executor's clock but stay in order, fair queues, blocking callbacks, value blocks. Fewer parts than
/// the real one, so that what goes wrong with it is the front's or the core's doing.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/random.h"
#include "base/sync.h"
#include "fs/lock_space.h"

namespace corral::test {

class ModelLockSpace {
 public:
  using NodeNumber = std::uint32_t;

  ModelLockSpace(Executor& executor, std::uint64_t seed, Duration longest_delay = std::chrono::milliseconds(1))
      : executor_(executor), random_(seed), longest_delay_(longest_delay), messages_(executor) {}

  /// One node's way to the lock space. Destroying it is the node's death: its requests are gone, its locks stay.
  class Node final : public LockSpace {
   public:
    Node(ModelLockSpace& space, NodeNumber number) : space_(space), number_(number) {
      space_.nodes_[number_] = this;
      std::erase(space_.dead_, number_);
    }
    ~Node() override {
      space_.nodes_.erase(number_);
      space_.died(number_);
    }
    GlockMode standing_mode() const override { return GlockMode::unlocked; }
    bool certain() const override { return true; }
    Task<bool> wait_until_certain() override { co_return true; }
    void set_client(LockClient* client) override { client_ = client; }
    Task<LockAnswer> change(GlockName name, GlockMode held, GlockMode wanted, LockHow how, LockValue value) override {
      co_await space_.executor_.sleep_until(departs(to_master_));
      std::shared_ptr<Request> request = space_.ask(number_, name, held, wanted, how, value);
      const Reply reply = co_await request->reply.wait();
      co_await space_.executor_.sleep_until(reply.arrives);
      co_return reply.answer;
    }
    void cancel(GlockName name) override { space_.messages_.spawn(space_.cancel(number_, name, departs(to_master_))); }
    Task<void> leave() override {
      co_await space_.executor_.sleep_until(departs(to_master_));
      space_.purge(number_);
    }

   private:
    friend class ModelLockSpace;
    /// When the next message of a direction arrives: never before the one sent before it.
    Time departs(Time& last) {
      last = std::max(last, space_.executor_.now() + space_.delay());
      return last;
    }
    ModelLockSpace& space_;
    NodeNumber number_;
    LockClient* client_ = nullptr;
    Time to_master_{};
    Time from_master_{};
  };

  /// The node's locks are given on: its journal was replayed, or it has left.
  void purge(NodeNumber node) {
    std::vector<GlockName> names;
    for (auto& [name, resource] : resources_)
      if (std::erase_if(resource.holders, [node](const Holder& holder) { return holder.node == node; }) != 0)
        names.push_back(name);
    for (const GlockName& name : names)
      serve(name);
  }

  /// Requests that wait, and who is in their way.
  std::vector<std::string> waiting() const {
    std::vector<std::string> lines;
    for (const auto& [name, resource] : resources_) {
      if (resource.waiting.empty()) continue;
      std::string line = fmt::format("type {} number {}: held by", static_cast<int>(name.type), name.number);
      for (const Holder& holder : resource.holders)
        line += fmt::format(" node {} mode {}", holder.node, static_cast<int>(holder.mode));
      line += ", waited for by";
      for (const auto& request : resource.waiting)
        line += fmt::format(" node {} mode {}", request->node, static_cast<int>(request->wanted));
      lines.push_back(std::move(line));
    }
    return lines;
  }

  /// The invariant of all: modes held at the same time are compatible. Holders of a name, for assertions.
  std::size_t holders(GlockName name) const {
    auto found = resources_.find(name);
    return found == resources_.end() ? 0 : found->second.holders.size();
  }
  std::uint64_t callbacks() const { return callbacks_; }

 private:
  struct Reply {
    LockAnswer answer;
    Time arrives;
  };
  struct Request {
    Request(Executor& executor, NodeNumber asking, GlockMode has, GlockMode asked, LockHow how_asked)
        : node(asking), held(has), wanted(asked), how(how_asked), reply(executor) {}
    NodeNumber node;
    GlockMode held;
    GlockMode wanted;
    LockHow how;
    Completion<Reply> reply;
  };
  struct Holder {
    NodeNumber node;
    GlockMode mode;
    GlockMode called_for = GlockMode::unlocked;  ///< strongest mode that it was called back for
  };
  struct Resource {
    std::vector<Holder> holders;
    std::deque<std::shared_ptr<Request>> waiting;  ///< conversions in front
    LockValue value{};
  };

  Duration delay() { return Duration(random_.between(1, static_cast<std::uint64_t>(longest_delay_.count()))); }
  bool is_dead(NodeNumber node) const { return std::ranges::find(dead_, node) != dead_.end(); }

  std::shared_ptr<Request> ask(NodeNumber node, GlockName name, GlockMode held, GlockMode wanted, LockHow how,
                               const LockValue& value) {
    auto request = std::make_shared<Request>(executor_, node, held, wanted, how);
    Resource& resource = resources_[name];
    auto mine = std::ranges::find(resource.holders, node, &Holder::node);
    CHECK_INVARIANT((mine == resource.holders.end() ? GlockMode::unlocked : mine->mode) == held);
    if (covers(held, wanted)) {
      if (held == GlockMode::exclusive) resource.value = value;
      if (wanted == GlockMode::unlocked) {
        if (mine != resource.holders.end()) resource.holders.erase(mine);
      } else {
        *mine = {node, wanted};
      }
      answer(*request, LockOutcome::granted, resource.value);
      serve(name);
      return request;
    }
    CHECK_INVARIANT(held == GlockMode::unlocked || wanted == GlockMode::exclusive);
    const bool converts = held != GlockMode::unlocked;
    if (how != LockHow::wait && (!fits(resource, *request) || (!converts && !resource.waiting.empty()))) {
      call_back(name, resource, *request);
      answer(*request, LockOutcome::denied, {});
      return request;
    }
    const bool another_converts =
        std::ranges::any_of(resource.waiting, [](const auto& other) { return other->held != GlockMode::unlocked; });
    if (converts && another_converts) {
      answer(*request, LockOutcome::denied, {});
      return request;
    }
    if (converts)
      resource.waiting.push_front(request);
    else
      resource.waiting.push_back(request);
    serve(name);
    return request;
  }

  Task<void> cancel(NodeNumber node, GlockName name, Time arrives) {
    co_await executor_.sleep_until(arrives);
    Resource& resource = resources_[name];
    const auto request = std::ranges::find(resource.waiting, node, [](const auto& one) { return one->node; });
    if (request == resource.waiting.end()) co_return;
    answer(**request, LockOutcome::denied, {});
    resource.waiting.erase(request);
    serve(name);
  }

  bool in_the_way(const Holder& holder, const Request& request) const {
    if (holder.node == request.node || compatible(holder.mode, request.wanted)) return false;
    return true;
  }
  bool fits(const Resource& resource, const Request& request) const {
    return std::ranges::none_of(resource.holders, [&](const Holder& h) { return in_the_way(h, request); });
  }

  void serve(GlockName name) {
    Resource& resource = resources_[name];
    while (!resource.waiting.empty() && fits(resource, *resource.waiting.front())) {
      std::shared_ptr<Request> request = resource.waiting.front();
      resource.waiting.pop_front();
      auto mine = std::ranges::find(resource.holders, request->node, &Holder::node);
      if (mine == resource.holders.end()) mine = resource.holders.insert(mine, Holder{request->node, request->wanted});
      *mine = {request->node, request->wanted};
      answer(*request, LockOutcome::granted, resource.value);
    }
    if (!resource.waiting.empty()) call_back(name, resource, *resource.waiting.front());
  }

  void call_back(GlockName name, Resource& resource, const Request& request) {
    for (Holder& holder : resource.holders) {
      if (!in_the_way(holder, request) || is_dead(holder.node)) continue;
      // Attempts do not stay: each must be told, for the last may have been answered already.
      if (request.how == LockHow::wait && covers(holder.called_for, request.wanted) &&
          holder.called_for != GlockMode::unlocked)
        continue;
      holder.called_for = std::max(holder.called_for, request.wanted);
      ++callbacks_;
      Node& node = *nodes_.at(holder.node);
      messages_.spawn(deliver(holder.node, node.departs(node.from_master_), name, request.wanted));
    }
  }

  Task<void> deliver(NodeNumber number, Time arrives, GlockName name, GlockMode wanted) {
    co_await executor_.sleep_until(arrives);
    auto node = nodes_.find(number);
    if (node != nodes_.end() && node->second->client_ != nullptr) node->second->client_->blocked(name, wanted);
  }

  void answer(Request& request, LockOutcome outcome, const LockValue& value) {
    Node& node = *nodes_.at(request.node);
    request.reply.set({{outcome, value}, node.departs(node.from_master_)});
  }

  void died(NodeNumber node) {
    dead_.push_back(node);
    std::vector<GlockName> names;
    for (auto& [name, resource] : resources_) {
      std::erase_if(resource.waiting, [node](const auto& request) { return request->node == node; });
      names.push_back(name);
    }
    for (const GlockName& name : names)
      serve(name);
  }

  Executor& executor_;
  Random random_;
  Duration longest_delay_;
  std::map<NodeNumber, Node*> nodes_;
  std::vector<NodeNumber> dead_;
  std::map<GlockName, Resource> resources_;
  std::uint64_t callbacks_ = 0;
  Scope messages_;
};

}  // namespace corral::test
