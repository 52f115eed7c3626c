/// One node's links over a SimulatedNetwork. What arrives goes through the node's own executor: it waits while the node
/// is held up.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "cluster/membership.h"
#include "cluster/simulated_network.h"

namespace corral::test {

class SimulatedLinks final : public cluster::LinkProvider, private Link {
 public:
  /// Who has an end at the network, of all providers. There is one for each slot.
  using Ends = std::map<NodeId, SimulatedLinks*>;

  SimulatedLinks(Executor& node, SimulatedNetwork& network, Ends& ends)
      : network_(network), ends_(ends), arrived_(node), scope_(node) {
    for (std::size_t channel = 0; channel < kChannels; ++channel)
      receivers_[channel].links = this;
    scope_.spawn(pump());
  }
  ~SimulatedLinks() override { drop(false); }

  Link& open(Member self) override {
    drop(false);
    self_ = self;
    if (const auto other = ends_.find(self.node); other != ends_.end()) {
      // Where another node claims the same slot at the same time, this one reaches nobody, and gives the slot up. A
      // life whose slot was given to a later one is not connected to any more.
      if (other->second->self_.incarnation > self.incarnation) return *this;
      other->second->be_replaced();
    }
    ends_[self.node] = this;
    end_ = &network_.add(self);
    for (std::size_t channel = 0; channel < kChannels; ++channel)
      end_->attach(static_cast<LinkChannel>(channel), &receivers_[channel]);
    return *this;
  }
  void set_peers(std::vector<cluster::Peer>) override {}
  void close() override { drop(false); }
  /// The process is gone or, `silent`, its host.
  void drop(bool silent) {
    for (Receiver& receiver : receivers_)
      receiver.user = nullptr;
    queue_.clear();
    if (end_ == nullptr) return;
    for (std::size_t channel = 0; channel < kChannels; ++channel)
      end_->attach(static_cast<LinkChannel>(channel), nullptr);
    end_ = nullptr;
    connected_.clear();
    network_.kill(self_, silent);
    ends_.erase(self_.node);
  }

 private:
  /// The network's side of a channel.
  struct Receiver final : LinkUser {
    SimulatedLinks* links = nullptr;
    LinkUser* user = nullptr;
    void received(Member from, std::span<const std::byte> message) override {
      if (user == nullptr) return;
      links->enqueue([this, from, bytes = std::vector(message.begin(), message.end())] {
        if (user != nullptr) user->received(from, bytes);
      });
    }
    void connected(Member peer) override {
      links->connected_.insert(peer);
      links->enqueue([this, peer] {
        if (user != nullptr) user->connected(peer);
      });
    }
    void disconnected(Member peer) override {
      links->connected_.erase(peer);
      links->enqueue([this, peer] {
        if (user != nullptr) user->disconnected(peer);
      });
    }
    void refused(Member peer) override {
      links->enqueue([this, peer] {
        if (user != nullptr) user->refused(peer);
      });
    }
  };

  Member self() const override { return self_; }
  void attach(LinkChannel channel, LinkUser* user) override {
    if (end_ != nullptr) receivers_[static_cast<std::size_t>(channel)].user = user;
  }
  bool send(Member to, LinkChannel channel, std::vector<std::byte> message) override {
    return end_ != nullptr && end_->send(to, channel, std::move(message));
  }
  void be_replaced() {
    const std::set<Member> lost = std::exchange(connected_, {});
    for (std::size_t channel = 0; channel < kChannels; ++channel) {
      end_->attach(static_cast<LinkChannel>(channel), nullptr);
      for (const Member& peer : lost)
        receivers_[channel].disconnected(peer);
    }
    end_ = nullptr;
    network_.kill(self_, false);
  }
  void enqueue(std::function<void()> event) {
    queue_.push_back(std::move(event));
    arrived_.notify_all();
  }
  Task<void> pump() {
    for (;;) {
      while (!queue_.empty()) {
        const auto event = std::move(queue_.front());
        queue_.pop_front();
        event();
      }
      co_await arrived_.wait();
    }
  }

  SimulatedNetwork& network_;
  Ends& ends_;
  Member self_{};
  Link* end_ = nullptr;
  std::set<Member> connected_;
  std::array<Receiver, kChannels> receivers_{};
  std::deque<std::function<void()>> queue_;
  Signal arrived_;
  Scope scope_;
};

}  // namespace corral::test
