#include "fuse/mount_arguments.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include <sys/mount.h>
#include <sys/sysinfo.h>

#include "base/parse_number.h"

namespace corral {

namespace {
/// Generic flags of mount(2), with what switches them off.
struct KernelFlag {
  std::string_view name;
  unsigned long set;
  unsigned long clear;
};
constexpr unsigned long kAtimeFlags = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
constexpr std::array kKernelFlags{
    KernelFlag{"ro", MS_RDONLY, 0},
    KernelFlag{"rw", 0, MS_RDONLY},
    KernelFlag{"suid", 0, MS_NOSUID},
    KernelFlag{"nosuid", MS_NOSUID, 0},
    KernelFlag{"dev", 0, MS_NODEV},
    KernelFlag{"nodev", MS_NODEV, 0},
    KernelFlag{"exec", 0, MS_NOEXEC},
    KernelFlag{"noexec", MS_NOEXEC, 0},
    KernelFlag{"async", 0, MS_SYNCHRONOUS},
    KernelFlag{"sync", MS_SYNCHRONOUS, 0},
    KernelFlag{"dirsync", MS_DIRSYNC, 0},
    KernelFlag{"silent", MS_SILENT, 0},
    KernelFlag{"loud", 0, MS_SILENT},
    KernelFlag{"diratime", 0, MS_NODIRATIME},
    KernelFlag{"nodiratime", MS_NODIRATIME, 0},
    KernelFlag{"nosymfollow", MS_NOSYMFOLLOW, 0},
    KernelFlag{"symfollow", 0, MS_NOSYMFOLLOW},
    KernelFlag{"atime", MS_RELATIME, kAtimeFlags},
    KernelFlag{"noatime", MS_NOATIME, kAtimeFlags},
    KernelFlag{"relatime", MS_RELATIME, kAtimeFlags},
    KernelFlag{"strictatime", MS_STRICTATIME, kAtimeFlags},
    KernelFlag{"norelatime", MS_STRICTATIME, kAtimeFlags},
    KernelFlag{"nostrictatime", MS_RELATIME, kAtimeFlags},
    KernelFlag{"lazytime", MS_LAZYTIME, 0},
    KernelFlag{"nolazytime", 0, MS_LAZYTIME},
};

/// What fstab carries for mount(8), systemd and others, not for the filesystem.
constexpr std::array<std::string_view, 19> kForOthers{
    "defaults", "auto",   "noauto",   "user",   "nouser",     "users",   "owner",  "noowner", "group",  "nogroup",
    "_netdev",  "nofail", "_rnetdev", "nomand", "noiversion", "uhelper", "helper", "loop",    "comment"};

/// GFS2's options that change nothing here: they are kept so that its fstab lines work.
constexpr std::array<std::string_view, 12> kWithoutEffect{
    "barrier",     "localflocks", "localcaching", "rgrplvb",        "norgrplvb",     "loccookie",
    "noloccookie", "upgrade",     "nosuiddir",    "statfs_quantum", "quota_quantum", "ignore_local_fs"};

constexpr std::array<std::string_view, 4> kSecurity{"context", "fscontext", "defcontext", "rootcontext"};

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Result<std::uint64_t> number_between(std::string_view name, std::string_view value, std::uint64_t least,
                                     std::uint64_t most) {
  std::optional<std::uint64_t> number = parse_number(value);
  if (!number || *number < least || *number > most)
    return fail(EINVAL, "option {}={}: the value must be a number from {} to {}", name, value, least, most);
  return *number;
}

Result<std::uint64_t> bytes_of(std::string_view name, std::string_view value) {
  std::string_view digits = value;
  unsigned shift = 0;
  if (!digits.empty()) {
    constexpr std::string_view kUnits = "KMGT";
    if (std::size_t unit = kUnits.find(digits.back()); unit != std::string_view::npos) {
      shift = static_cast<unsigned>(unit + 1) * 10;
      digits.remove_suffix(1);
    }
  }
  std::optional<std::uint64_t> number = parse_number(digits);
  constexpr std::uint64_t kLeast = 4 << 20;
  if (!number || *number > std::numeric_limits<std::uint64_t>::max() >> shift || *number << shift < kLeast)
    return fail(EINVAL, "option {}={}: the value must be a size of 4M or more, in bytes or with K, M, G or T", name,
                value);
  return *number << shift;
}

template <class T>
Result<> choose(std::string_view name, std::string_view value, T& into,
                std::initializer_list<std::pair<std::string_view, T>> choices) {
  std::string words;
  for (const auto& [word, choice] : choices) {
    if (word == value) {
      into = choice;
      return {};
    }
    words += (words.empty() ? "" : ", ") + std::string(word);
  }
  return fail(EINVAL, "option {}={}: the value must be one of {}", name, value, words);
}

/// A quarter of the memory, but no more than 1 GiB.
std::uint64_t default_cache_bytes() {
  struct sysinfo info{};
  if (sysinfo(&info) != 0) return MountOptions{}.cache_bytes;
  return std::min<std::uint64_t>(std::uint64_t{info.totalram} * info.mem_unit / 4, 1u << 30);
}
}  // namespace

MountArguments::MountArguments() {
  filesystem.cache_bytes = default_cache_bytes();
}

Result<> MountArguments::add_options(std::string_view options) {
  while (!options.empty()) {
    // A comma within quotes belongs to the value (SELinux contexts).
    bool quoted = false;
    std::size_t end = 0;
    for (; end < options.size() && (quoted || options[end] != ','); ++end)
      quoted ^= options[end] == '"';
    std::string_view option = options.substr(0, end);
    options.remove_prefix(std::min(end + 1, options.size()));
    if (option.empty()) continue;
    std::size_t equals = option.find('=');
    bool has_value = equals != std::string_view::npos;
    std::string_view value = has_value ? option.substr(equals + 1) : std::string_view();
    TRY_VOID(add_option(option.substr(0, equals), value, has_value));
  }
  return {};
}

Result<> MountArguments::add_option(std::string_view name, std::string_view value, bool has_value) {
  if (name.starts_with("x-") || name.starts_with("X-") || contains(kForOthers, name)) return {};
  if (contains(kWithoutEffect, name)) {
    without_effect.emplace_back(name);
    return {};
  }
  if (contains(kSecurity, name)) {
    security_options += fmt::format("{}{}={}", security_options.empty() ? "" : ",", name, value);
    return {};
  }
  if (has_value) {
    for_filesystem = true;
    return set_value(name, value);
  }
  if (set_kernel_flag(name)) return {};
  for_filesystem |= name != "remount";
  if (set_switch(name)) return {};
  return fail(EINVAL, "unknown mount option \"{}\"", name);
}

bool MountArguments::set_kernel_flag(std::string_view name) {
  for (const KernelFlag& flag : kKernelFlags) {
    if (flag.name != name) continue;
    kernel_flags = (kernel_flags & ~flag.clear) | flag.set;
    return true;
  }
  return false;
}

bool MountArguments::set_switch(std::string_view name) {
  static const std::array<std::pair<std::string_view, void (*)(MountArguments&)>, 14> kSwitches{{
      {"remount", [](MountArguments& a) { a.remount = true; }},
      {"acl", [](MountArguments& a) { a.filesystem.acl = true; }},
      {"noacl", [](MountArguments& a) { a.filesystem.acl = false; }},
      {"discard", [](MountArguments& a) { a.filesystem.discard = true; }},
      {"nodiscard", [](MountArguments& a) { a.filesystem.discard = false; }},
      {"debug", [](MountArguments& a) { a.filesystem.debug = true; }},
      {"nodebug", [](MountArguments& a) { a.filesystem.debug = false; }},
      {"spectator", [](MountArguments& a) { a.filesystem.spectator = true; }},
      {"quota", [](MountArguments& a) { a.filesystem.quota = QuotaMode::on; }},
      {"noquota", [](MountArguments& a) { a.filesystem.quota = QuotaMode::off; }},
      {"writeback_cache", [](MountArguments& a) { a.writeback_cache = true; }},
      {"rejoin", [](MountArguments& a) { a.rejoin = true; }},
      {"norejoin", [](MountArguments& a) { a.rejoin = false; }},
      {"nowriteback_cache", [](MountArguments& a) { a.writeback_cache = false; }},
  }};
  for (const auto& [known, apply] : kSwitches) {
    if (known != name) continue;
    apply(*this);
    return true;
  }
  return false;
}

Result<> MountArguments::set_value(std::string_view name, std::string_view value) {
  MountOptions& fs = filesystem;
  if (name == "data")
    return choose(name, value, fs.data, {{"ordered", DataMode::ordered}, {"writeback", DataMode::writeback}});
  if (name == "quota")
    return choose(
        name, value, fs.quota,
        {{"off", QuotaMode::off}, {"account", QuotaMode::account}, {"on", QuotaMode::on}, {"quiet", QuotaMode::on}});
  if (name == "errors")
    return choose(name, value, fs.errors, {{"withdraw", ErrorPolicy::withdraw}, {"panic", ErrorPolicy::panic}});
  if (name == "lockproto" || name == "locktable") {
    if (value.empty()) return fail(EINVAL, "option {}: a value is missing", name);
    (name == "lockproto" ? fs.lock_protocol : fs.lock_table) = value;
    return {};
  }
  if (name == "node" || name == "addr") {
    if (value.empty()) return fail(EINVAL, "option {}: a value is missing", name);
    if (name == "node")
      node.name = value;
    else
      node.addresses.emplace_back(value);
    return {};
  }
  if (name == "events") {
    if (value.empty() || value.front() != '/')
      return fail(EINVAL, "option {}={}: the value must be the absolute path of a folder", name, value);
    event_hooks = value;
    return {};
  }
  if (name == "port") {
    TRY(std::uint64_t number, number_between(name, value, 1, 65535));
    node.port = static_cast<std::uint16_t>(number);
    return {};
  }
  if (name == "commit") {
    TRY(std::uint64_t seconds, number_between(name, value, 1, 3600));
    fs.commit_interval = std::chrono::seconds(seconds);
    return {};
  }
  if (name == "statfs_percent") {
    TRY(std::uint64_t percent, number_between(name, value, 0, 100));
    fs.statfs_percent = static_cast<std::uint32_t>(percent);
    return {};
  }
  if (name == "cache") {
    TRY(fs.cache_bytes, bytes_of(name, value));
    return {};
  }
  if (name == "metrics") {
    TRY(metrics, MetricsAddress::parse(std::string(value)));
    return {};
  }
  if (name == "spin") {
    TRY(std::uint64_t microseconds, number_between(name, value, 0, 1000));
    spin = std::chrono::microseconds(microseconds);
    return {};
  }
  return fail(EINVAL, "unknown mount option \"{}={}\"", name, value);
}

void MountArguments::finish() {
  if (filesystem.spectator) kernel_flags |= MS_RDONLY;
  filesystem.read_only = (kernel_flags & MS_RDONLY) != 0;
  filesystem.lazytime = (kernel_flags & MS_LAZYTIME) != 0;
  filesystem.atime = (kernel_flags & MS_NOATIME) != 0       ? AtimePolicy::noatime
                     : (kernel_flags & MS_STRICTATIME) != 0 ? AtimePolicy::strictatime
                                                            : AtimePolicy::relatime;
}

}  // namespace corral
