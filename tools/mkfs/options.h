/// What a new volume shall be like: mkfs.corral's options as values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/area_format.h"
#include "ondisk/group_shape.h"
#include "ondisk/layout.h"

namespace corral::mkfs {

constexpr std::uint64_t kMebibyte = 1 << 20;

constexpr std::uint32_t kMinBlockBytes = 512;
constexpr std::uint32_t kMaxBlockBytes = 4096;
constexpr std::uint32_t kMinJournalMebibytes = 8;
constexpr std::uint32_t kMaxJournalMebibytes = 1024;
constexpr std::uint32_t kMinResourceGroupMebibytes = 32;
constexpr std::uint32_t kMaxResourceGroupMebibytes = 2048;
constexpr std::uint32_t kMinQuotaChangeMebibytes = 1;
constexpr std::uint32_t kMaxQuotaChangeMebibytes = 64;
constexpr std::uint32_t kMaxJournals = 1024;
constexpr std::uint64_t kMaxStripeWidthBytes = ondisk::GroupAlignment::kMaxWidthBytes;

constexpr const char* kLockCorral = "lock_corral";
constexpr const char* kLockDlm = "lock_dlm";
constexpr const char* kLockNolock = "lock_nolock";

/// A RAID's stripe: `unit_bytes` on one disk, `width_bytes` over all data disks (a multiple of the unit).
struct Stripe {
  std::uint64_t unit_bytes = 0;
  std::uint64_t width_bytes = 0;
};

struct FormatOptions {
  std::uint32_t block_size = 4096;                 ///< bytes
  std::optional<std::uint64_t> block_count;        ///< size of the volume; default the whole device
  std::uint32_t journals = 1;                      ///< the most nodes that can mount at a time
  std::optional<std::uint32_t> journal_mebibytes;  ///< of each; default by the volume's size
  std::uint32_t quota_change_mebibytes = 1;        ///< of each node's quota_change file
  std::optional<std::uint32_t> resource_group_mebibytes;
  std::string lock_protocol = kLockCorral;
  std::string lock_table;  ///< CLUSTER:NAME; may be empty only with lock_nolock
  std::uint32_t fs_format = ondisk::kFilesystemFormatMax;
  bool align = true;             ///< align resource groups to stripes
  std::optional<Stripe> stripe;  ///< default what the device says
  std::array<std::uint8_t, 16> uuid{};
  cluster::Header cluster{};  ///< of the cluster area, which volumes with lock_corral have
  WallTime now{};             ///< time stamp of every inode
};

/// True where the volume gets a cluster area.
inline bool has_cluster_area(const FormatOptions& options) {
  return options.lock_protocol == kLockCorral;
}

/// EINVAL with a message for the option that is wrong by itself, whatever the device.
Result<> check_options(const FormatOptions& options);

}  // namespace corral::mkfs
