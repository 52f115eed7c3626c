/// The command line of fsck.corral: the options of fsck(8) and fsck.gfs2.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace corral {

/// Exit codes of fsck(8).
namespace fsck_exit {
constexpr int kClean = 0;
constexpr int kCorrected = 1;
constexpr int kErrorsRemain = 4;
constexpr int kFailed = 8;
constexpr int kUsage = 16;
constexpr int kCancelled = 32;
}  // namespace fsck_exit

struct FsckCommand {
  enum class Mode : std::uint8_t {
    ask,    ///< each repair, on the terminal
    yes,    ///< -y, and -a and -p
    never,  ///< -n
  };
  std::string device;
  Mode mode = Mode::ask;
  bool preen = false;  ///< -a, -p: no more than the journals where that is enough
  bool force = false;  ///< -f: a whole check although preening finds the volume clean
  bool json = false;
  int verbosity = 0;  ///< -1 with -q; each -v adds one
};

/// What to do, or the exit code of a program that has nothing to do (help, version) or was called wrongly.
std::variant<FsckCommand, int> parse_fsck_command(int argc, char** argv);

}  // namespace corral
