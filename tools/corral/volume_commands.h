/// corral adopt, release and config: a volume's way into our care and out of it, and the cluster's settings.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "base/result.h"

namespace corral {

/// Each adds itself to the program and sets `status` when it has run: 0 done, 8 it could not be done (nothing was
/// changed).
class AdoptCommand {
 public:
  AdoptCommand(CLI::App& app, int& status);
  AdoptCommand(const AdoptCommand&) = delete;
  AdoptCommand& operator=(const AdoptCommand&) = delete;

 private:
  int run() const;
  std::string device_;
  std::string lock_table_;
};

class ReleaseCommand {
 public:
  ReleaseCommand(CLI::App& app, int& status);
  ReleaseCommand(const ReleaseCommand&) = delete;
  ReleaseCommand& operator=(const ReleaseCommand&) = delete;

 private:
  int run() const;
  std::string device_;
  std::string protocol_ = "lock_dlm";
};

class ConfigCommand {
 public:
  ConfigCommand(CLI::App& app, int& status);
  ConfigCommand(const ConfigCommand&) = delete;
  ConfigCommand& operator=(const ConfigCommand&) = delete;

 private:
  int get() const;
  int set() const;
  std::string device_;
  std::string name_;
  std::string value_;
  bool json_ = false;
};

}  // namespace corral
