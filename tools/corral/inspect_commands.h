/// corral dump, df and journals: looking at what stands on a volume. Nodes may have it mounted; nothing is written.
#pragma once

#include <optional>
#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// Each adds itself to the program and sets `status` when it has run: 0 done, 5 the disk did not answer in time, 8 it
/// could not be done.
class DumpCommand {
 public:
  DumpCommand(CLI::App& app, int& status);
  DumpCommand(const DumpCommand&) = delete;
  DumpCommand& operator=(const DumpCommand&) = delete;

 private:
  int run(const std::string& what) const;
  std::string device_;
  std::string which_;
  std::uint32_t journal_ = 0;
  bool all_ = false;
  bool json_ = false;
};

class DfCommand {
 public:
  DfCommand(CLI::App& app, int& status);
  DfCommand(const DfCommand&) = delete;
  DfCommand& operator=(const DfCommand&) = delete;

 private:
  int run() const;
  std::string target_;
  bool groups_ = false;
  bool fragmentation_ = false;
  bool json_ = false;
};

class JournalsCommand {
 public:
  JournalsCommand(CLI::App& app, int& status);
  JournalsCommand(const JournalsCommand&) = delete;
  JournalsCommand& operator=(const JournalsCommand&) = delete;

 private:
  int list() const;
  std::string target_;
  bool json_ = false;
};

}  // namespace corral
