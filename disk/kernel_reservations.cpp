#include "disk/kernel_reservations.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file_descriptor.h"
#include "base/first_line.h"
#include "disk/nvme_reservations.h"
#include "disk/path_reservations.h"
#include "disk/sg_transport.h"

namespace corral {

namespace {
namespace files = std::filesystem;

FileDescriptor open_again(const std::string& path) {
  FileDescriptor writable(open(path.c_str(), O_RDWR | O_CLOEXEC));
  return writable ? std::move(writable) : FileDescriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

bool is_multipath(const files::path& folder) {
  return first_line(folder / "dm" / "uuid").starts_with("mpath-");
}

/// The disks under a multipath device.
std::vector<std::string> paths_under(const files::path& folder) {
  std::vector<std::string> paths;
  std::error_code ignored;
  for (const files::directory_entry& entry : files::directory_iterator(folder / "slaves", ignored))
    paths.push_back("/dev/" + entry.path().filename().string());
  std::ranges::sort(paths);
  return paths;
}
}  // namespace

std::unique_ptr<Reservations> open_kernel_reservations(EventLoop& loop, int descriptor, const std::string& name) {
  struct stat status{};
  if (fstat(descriptor, &status) != 0 || !S_ISBLK(status.st_mode)) return nullptr;
  const files::path folder = fmt::format("/sys/dev/block/{}:{}", major(status.st_rdev), minor(status.st_rdev));
  std::error_code ignored;
  if (files::exists(folder / "partition", ignored)) return nullptr;
  if (NvmeReservations::is_namespace(descriptor))
    return std::make_unique<NvmeReservations>(loop, open_again(name), name);
  std::vector<std::string> names{name};
  if (is_multipath(folder)) {
    names = paths_under(folder);
  } else if (files::exists(folder / "dm", ignored)) {
    // Other mapped devices may lie on several disks, or on parts of one.
    return nullptr;
  }
  std::vector<std::unique_ptr<scsi::Transport>> paths;
  for (const std::string& path : names) {
    FileDescriptor device = open_again(path);
    if (!device || !SgTransport::takes_commands(device.get())) return nullptr;
    paths.push_back(std::make_unique<SgTransport>(loop, std::move(device), path));
  }
  if (paths.empty()) return nullptr;
  return std::make_unique<PathReservations>(loop.executor(), std::move(paths));
}

}  // namespace corral
