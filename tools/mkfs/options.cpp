#include "tools/mkfs/options.h"

#include <algorithm>
#include <bit>
#include <string_view>

namespace corral::mkfs {

namespace {

constexpr std::size_t kMaxClusterNameBytes = 32;
constexpr std::size_t kMaxVolumeNameBytes = 30;

Result<> check_range(const char* what, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  if (value >= least && value <= most) return {};
  return fail(EINVAL, "{} must be from {} to {}, not {}", what, least, most, value);
}

bool is_table_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

Result<> check_table_part(const char* what, std::string_view part, std::size_t most) {
  if (part.empty() || part.size() > most)
    return fail(EINVAL, "lock table: the {} name must have 1 to {} characters, not {}", what, most, part.size());
  auto wrong = std::find_if_not(part.begin(), part.end(), is_table_character);
  if (wrong != part.end())
    return fail(EINVAL,
                "lock table: character '{}' in the {} name '{}'; letters, digits, hyphens (-) and underscores (_) "
                "are allowed",
                *wrong, what, part);
  return {};
}

Result<> check_lock_table(const FormatOptions& options) {
  const std::string& table = options.lock_table;
  if (table.empty()) {
    if (options.lock_protocol == kLockNolock) return {};
    return fail(EINVAL,
                "a lock table is needed with {}: -t CLUSTER:NAME, for instance -t my-cluster:storage (or "
                "-p lock_nolock for a volume that only one node mounts)",
                options.lock_protocol);
  }
  const std::size_t colon = table.find(':');
  if (colon == table.npos || table.find(':', colon + 1) != table.npos)
    return fail(EINVAL, "lock table '{}' must be CLUSTER:NAME, with one colon", table);
  TRY_VOID(check_table_part("cluster", std::string_view(table).substr(0, colon), kMaxClusterNameBytes));
  return check_table_part("volume", std::string_view(table).substr(colon + 1), kMaxVolumeNameBytes);
}

Result<> check_stripe(const FormatOptions& options) {
  if (!options.stripe) return {};
  const auto [unit, width] = *options.stripe;
  if (unit == 0 || unit % options.block_size != 0)
    return fail(EINVAL, "stripe unit {} is not a multiple of the block size, {}", unit, options.block_size);
  if (width == 0 || width % unit != 0)
    return fail(EINVAL, "stripe width {} is not a multiple of the stripe unit, {}", width, unit);
  if (width > kMaxStripeWidthBytes)
    return fail(EINVAL, "stripe width {} is more than {}, the size of the smallest resource group", width,
                kMaxStripeWidthBytes);
  return {};
}

}  // namespace

Result<> check_options(const FormatOptions& options) {
  if (!std::has_single_bit(options.block_size) || options.block_size < kMinBlockBytes ||
      options.block_size > kMaxBlockBytes)
    return fail(EINVAL, "block size must be a power of two from {} to {} bytes, not {}", kMinBlockBytes, kMaxBlockBytes,
                options.block_size);
  TRY_VOID(check_range("the number of journals", options.journals, 1, kMaxJournals));
  if (options.journal_mebibytes)
    TRY_VOID(check_range("the journals' size in MiB", *options.journal_mebibytes, kMinJournalMebibytes,
                         kMaxJournalMebibytes));
  if (options.resource_group_mebibytes)
    TRY_VOID(check_range("the resource groups' size in MiB", *options.resource_group_mebibytes,
                         kMinResourceGroupMebibytes, kMaxResourceGroupMebibytes));
  TRY_VOID(check_range("the quota change files' size in MiB", options.quota_change_mebibytes, kMinQuotaChangeMebibytes,
                       kMaxQuotaChangeMebibytes));
  TRY_VOID(check_range("the format", options.fs_format, ondisk::kFilesystemFormatMin, ondisk::kFilesystemFormatMax));
  if (options.lock_protocol != kLockCorral && options.lock_protocol != kLockDlm && options.lock_protocol != kLockNolock)
    return fail(EINVAL, "lock protocol '{}' is not known; choose {}, {} or {}", options.lock_protocol, kLockCorral,
                kLockDlm, kLockNolock);
  if (has_cluster_area(options) && options.journals > cluster::kSlots)
    return fail(EINVAL, "{} journals are more than the {} nodes that a cluster can have", options.journals,
                cluster::kSlots);
  TRY_VOID(check_lock_table(options));
  return check_stripe(options);
}

}  // namespace corral::mkfs
