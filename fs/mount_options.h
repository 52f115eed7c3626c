/// Options of a mount, as mount.corral parses them.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace corral {

enum class AtimePolicy { noatime, relatime, strictatime };
enum class DataMode { ordered, writeback };
enum class QuotaMode { off, account, on };
enum class ErrorPolicy { withdraw, panic };

struct MountOptions {
  bool read_only = false;
  bool spectator = false;  ///< read-only without a journal of its own; never replays
  bool debug = false;
  bool acl = true;
  bool discard = false;
  AtimePolicy atime = AtimePolicy::relatime;
  bool lazytime = false;
  DataMode data = DataMode::ordered;
  QuotaMode quota = QuotaMode::off;
  ErrorPolicy errors = ErrorPolicy::withdraw;
  Duration commit_interval = std::chrono::seconds(30);
  std::uint32_t statfs_percent =
      0;                      ///< GFS2: sync local statfs changes to the master file beyond this share of free space
  std::string lock_protocol;  ///< lockproto=; empty: as the superblock says
  std::string lock_table;     ///< locktable=; empty: as the superblock says
  /// Half is for blocks and inodes, half for file data that waits to be written.
  std::uint64_t cache_bytes = 256u << 20;
  std::uint64_t metadata_bytes() const { return cache_bytes / 2; }
  std::uint64_t dirty_data_bytes() const { return cache_bytes / 2; }
};

}  // namespace corral
