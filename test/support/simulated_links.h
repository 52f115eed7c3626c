/// One node's links over a SimulatedNetwork, for nodes that share the network's executor.
#pragma once

#include <array>
#include <set>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cluster/membership.h"
#include "cluster/simulated_network.h"

namespace corral::test {

class SimulatedLinks final : public cluster::LinkProvider, private Link {
 public:
  /// `taken`: nodes that have an end at the network, of all providers.
  SimulatedLinks(SimulatedNetwork& network, std::set<NodeId>& taken) : network_(network), taken_(taken) {}
  ~SimulatedLinks() override { close(); }

  Link& open(Member self) override {
    close();
    self_ = self;
    // Where another node claims the same slot at the same time, this one reaches nobody, and gives the slot up.
    if (taken_.insert(self.node).second) end_ = &network_.add(self);
    return *this;
  }
  void set_peers(std::vector<cluster::Peer>) override {}
  void close() override {
    if (end_ == nullptr) return;
    end_ = nullptr;
    network_.kill(self_, false);
    taken_.erase(self_.node);
  }

 private:
  Member self() const override { return self_; }
  void attach(LinkChannel channel, LinkUser* user) override {
    if (end_ != nullptr) end_->attach(channel, user);
  }
  bool send(Member to, LinkChannel channel, std::vector<std::byte> message) override {
    return end_ != nullptr && end_->send(to, channel, std::move(message));
  }

  SimulatedNetwork& network_;
  std::set<NodeId>& taken_;
  Member self_{};
  Link* end_ = nullptr;
};

}  // namespace corral::test
