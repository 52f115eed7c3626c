/// corral fence status|node|clear|ack: what keeps dead nodes from writing to a disk, seen from the disk alone. No mount
/// is asked, and none needs to live.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done (status: all is as it should be), 1 status: the
/// disk has stale keys, or none where nodes are registered in the cluster area; 8 it could not be done.
class FenceCommand {
 public:
  FenceCommand(CLI::App& app, int& status);
  FenceCommand(const FenceCommand&) = delete;
  FenceCommand& operator=(const FenceCommand&) = delete;

 private:
  int show() const;
  int fence() const;
  int clear() const;
  int acknowledge() const;

  std::string device_;
  std::string node_;
  bool json_ = false;
  bool stale_ = false;
  bool sure_ = false;
};

}  // namespace corral
