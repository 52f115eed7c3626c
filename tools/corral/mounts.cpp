#include "tools/corral/mounts.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/first_line.h"
#include "base/parse_number.h"
#include "control/control_client.h"
#include "control/control_socket.h"
#include "disk/open_device.h"

namespace corral {

namespace {
constexpr std::chrono::milliseconds kAnswerLimit{3000};

/// Spaces, tabs, newlines and backslashes stand as \040 and so on.
std::string unescape(const std::string& field) {
  std::string text;
  for (std::size_t i = 0; i < field.size(); ++i) {
    auto octal = [&](std::size_t at) { return i + at < field.size() && field[i + at] >= '0' && field[i + at] <= '7'; };
    if (field[i] == '\\' && octal(1) && octal(2) && octal(3)) {
      text += static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + (field[i + 3] - '0'));
      i += 3;
    } else {
      text += field[i];
    }
  }
  return text;
}

/// What a loop device stands for, as it was told when it was attached: the kernel's list of mounts knows the loop
/// device only.
std::string behind_loop_device(const std::string& source) {
  const std::string name = std::filesystem::path(source).filename();
  if (!source.starts_with("/dev/loop")) return source;
  // A placeholder's backing file is nameless; its real name is only known to the mount's process.
  const std::string backing = first_line("/sys/block/" + name + "/loop/backing_file");
  return backing.empty() || backing.starts_with("/memfd:") ? source : backing;
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;)
    words.push_back(word);
  return words;
}
}  // namespace

Result<nlohmann::json> CorralMount::ask(const nlohmann::json& request) const {
  return ask_mount(control_socket_path(device_major, device_minor), request, kAnswerLimit);
}

Result<nlohmann::json> CorralMount::command(const nlohmann::json& request) const {
  return command_mount(control_socket_path(device_major, device_minor), request, kAnswerLimit);
}

std::vector<CorralMount> parse_mounts(const std::string& mountinfo) {
  // Mount id, parent, major:minor, root, mount point, options, optional fields, "-", type, source, options.
  constexpr std::size_t kNumber = 2;
  constexpr std::size_t kDirectory = 4;
  std::vector<CorralMount> mounts;
  std::istringstream stream(mountinfo);
  for (std::string line; std::getline(stream, line);) {
    const std::vector<std::string> words = words_of(line);
    auto dash = std::ranges::find(words, "-");
    if (words.size() <= kDirectory || words.end() - dash < 3) continue;
    if (*(dash + 1) != "fuseblk.corral" && *(dash + 1) != "fuse.corral") continue;
    const std::size_t colon = words[kNumber].find(':');
    if (colon == std::string::npos) continue;
    const auto major = parse_number<std::uint32_t>(std::string_view(words[kNumber]).substr(0, colon));
    const auto minor = parse_number<std::uint32_t>(std::string_view(words[kNumber]).substr(colon + 1));
    if (!major || !minor) continue;
    mounts.push_back({.directory = unescape(words[kDirectory]),
                      .device = unescape(*(dash + 2)),
                      .device_major = *major,
                      .device_minor = *minor});
  }
  return mounts;
}

Result<std::vector<CorralMount>> corral_mounts() {
  std::ifstream file("/proc/self/mountinfo");
  if (!file) return fail(errno, "/proc/self/mountinfo cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  std::vector<CorralMount> mounts;
  for (CorralMount& mount : parse_mounts(text.str())) {
    const bool known = std::ranges::any_of(mounts, [&](const CorralMount& other) {
      return other.device_major == mount.device_major && other.device_minor == mount.device_minor &&
             other.directory == mount.directory;
    });
    if (known) continue;
    mount.device = behind_loop_device(mount.device);
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

Result<CorralMount> mount_at(const std::string& path) {
  std::error_code error;
  std::string wanted = std::filesystem::absolute(path, error).lexically_normal();
  if (wanted.size() > 1 && wanted.ends_with('/')) wanted.pop_back();
  TRY(const std::vector<CorralMount> mounts, corral_mounts());
  // The last one covers those before it.
  for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount)
    if (mount->directory == wanted) return *mount;
  return fail(ENOENT, "{}: no Corral mount", path);
}

bool names_mount_point(const std::string& target) {
  if (mount_at(target)) return true;
  // Not of Corral, or its process is gone with its mount: then looking at it cannot hang.
  std::error_code error;
  return names_path(target) && std::filesystem::is_directory(target, error);
}

}  // namespace corral
