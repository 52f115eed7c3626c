#include "disk/device_users.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/first_line.h"

namespace corral {

namespace {
namespace filesystem = std::filesystem;

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;)
    words.push_back(word);
  return words;
}

std::string process_name(const std::string& pid) {
  std::string name = first_line("/proc/" + pid + "/comm");
  return name.empty() ? "process " + pid : fmt::format("process {} ({})", pid, name);
}

void add_mounts(dev_t device, std::vector<std::string>& users) {
  // Fields: mount id, parent id, major:minor, root, mount point, ...
  std::string number = fmt::format("{}:{}", major(device), minor(device));
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::vector<std::string> words = words_of(line);
    if (words.size() > 4 && words[2] == number) users.push_back("mounted on " + words[4]);
  }
}

void add_swap(dev_t device, std::vector<std::string>& users) {
  std::ifstream swaps("/proc/swaps");
  for (std::string line; std::getline(swaps, line);) {
    std::vector<std::string> words = words_of(line);
    struct stat status{};
    if (!words.empty() && stat(words[0].c_str(), &status) == 0 && S_ISBLK(status.st_mode) && status.st_rdev == device)
      users.emplace_back("used as swap");
  }
}

/// Devices stacked on this one: device mapper, RAID.
void add_holders(dev_t device, std::vector<std::string>& users) {
  std::error_code ignored;
  filesystem::path folder = fmt::format("/sys/dev/block/{}:{}/holders", major(device), minor(device));
  for (const auto& holder : filesystem::directory_iterator(folder, ignored)) {
    std::string mapper = first_line(holder.path() / "dm/name");
    std::string name = mapper.empty() ? holder.path().filename().string() : "mapper/" + mapper;
    users.push_back("part of /dev/" + name);
  }
}

void add_flocks(const struct stat& status, std::vector<std::string>& users) {
  // Fields: number, type, kind, access, pid, major:minor:inode (hexadecimal, hexadecimal, decimal), ...
  std::string file = fmt::format("{:02x}:{:02x}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::vector<std::string> words = words_of(line);
    if (words.size() > 5 && words[1] == "FLOCK" && words[5] == file)
      users.push_back("locked by " + process_name(words[4]));
  }
}
}  // namespace

std::string describe_users(int descriptor) {
  struct stat status{};
  std::vector<std::string> users;
  if (fstat(descriptor, &status) != 0) return {};
  if (S_ISBLK(status.st_mode)) {
    add_mounts(status.st_rdev, users);
    add_swap(status.st_rdev, users);
    add_holders(status.st_rdev, users);
  } else {
    add_flocks(status, users);
  }
  return fmt::format("{}", fmt::join(users, ", "));
}

std::string find_loop_device(int descriptor) {
  struct stat wanted{};
  if (fstat(descriptor, &wanted) != 0) return {};
  std::error_code ignored;
  for (const auto& entry : filesystem::directory_iterator("/sys/block", ignored)) {
    std::string backing = first_line(entry.path() / "loop/backing_file");
    struct stat status{};
    if (backing.empty() || stat(backing.c_str(), &status) != 0) continue;
    if (status.st_dev == wanted.st_dev && status.st_ino == wanted.st_ino)
      return "/dev/" + entry.path().filename().string();
  }
  return {};
}

}  // namespace corral
