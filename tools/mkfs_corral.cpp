// mkfs.corral: makes a volume.
#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "disk/event_loop.h"
#include "disk/open_device.h"
#include "tools/mkfs/volume_image.h"
#include "tools/mkfs/write_volume.h"
#include "tools/mkfs_corral/command_line.h"
#include "tools/mkfs_corral/signatures.h"
#include "tools/mkfs_corral/terminal.h"

using namespace corral;
using namespace corral::mkfs;

namespace {

DeviceGeometry geometry_for(const CommandLine& command, const Device& device) {
  DeviceGeometry geometry = device.geometry();
  if (!command.test_topology) return geometry;
  DeviceGeometry test = *command.test_topology;
  test.size_bytes = geometry.size_bytes;
  return test;
}

/// Refuses, asks or erases, as the user wants it, what somebody may still need.
Result<> clear_old_contents(const CommandLine& command, EventLoop& loop, Device& device) {
  TRY(Signatures signatures, loop.run_until_done(Signatures::find(device)));
  const std::vector<std::string>& found = signatures.found();
  if (found.empty()) return {};
  const std::string contents = fmt::format("{}", fmt::join(found, " and "));
  if (!command.override_contents) {
    if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0)
      return fail(EEXIST, "{} contains {}; -O overwrites it", command.device, contents);
    if (!confirm_overwrite(command.device, contents)) return fail(ECANCELED, "nothing was changed");
  }
  return loop.run_until_done(signatures.wipe(device));
}

void warn_of_small_blocks(const CommandLine& command, const DeviceGeometry& geometry) {
  struct stat status{};
  if (stat(command.device.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) return;
  if (command.format.block_size >= geometry.physical_sector_bytes) return;
  fmt::print(stderr,
             "mkfs.corral: warning: blocks of {} bytes are smaller than the device's physical sectors of {} bytes, "
             "which makes writing slow\n",
             command.format.block_size, geometry.physical_sector_bytes);
}

Result<> make_volume(const CommandLine& command) {
  EventLoop loop;
  TRY(auto device, loop.run_until_done(open_device(loop, command.device)));
  const DeviceGeometry geometry = geometry_for(command, *device);
  auto image = VolumeImage::plan(command.format, geometry);
  if (!image) return std::unexpected(image.error().within(command.device));
  if (!command.quiet) warn_of_small_blocks(command, geometry);
  TRY_VOID(clear_old_contents(command, loop, *device));
  if (command.debug) fmt::print("{}", layout_details(*image));

  ProgressLine progress(!command.quiet && isatty(STDOUT_FILENO) != 0);
  WriteOptions write{.discard = command.discard,
                     .progress = [&](WritePhase phase, std::uint64_t done, std::uint64_t total) {
                       progress.update(phase, done, total);
                     }};
  auto written = loop.run_until_done(write_volume(loop.executor(), *device, *image, std::move(write)));
  progress.end();
  loop.run_until_done(device->close());
  if (!written) return written;
  if (!command.quiet) fmt::print("{}", summary(command.device, device->geometry(), *image));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  auto parsed = parse_command_line(argc, argv, SystemClock().wall());
  if (const auto* code = std::get_if<ExitCode>(&parsed)) return *code;
  if (auto made = make_volume(std::get<CommandLine>(parsed)); !made) {
    fmt::print(stderr, "mkfs.corral: {}\n", made.error().describe());
    return 1;
  }
  return 0;
}
