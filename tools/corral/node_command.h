/// corral node list|leave|expel|admit: the nodes of a cluster, one by one.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done; 1 expel: recorded, but the node is not out yet;
/// 5 a disk or a mount did not answer in time; 8 it could not be done.
class NodeCommand {
 public:
  NodeCommand(CLI::App& app, int& status);
  NodeCommand(const NodeCommand&) = delete;
  NodeCommand& operator=(const NodeCommand&) = delete;

 private:
  int list() const;
  int leave() const;
  int expel() const;
  int admit() const;

  std::string target_;  ///< device or mount point
  std::string node_;
  bool json_ = false;
  bool sure_ = false;
  double timeout_seconds_ = 120;
};

}  // namespace corral
