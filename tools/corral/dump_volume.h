/// What stands on a volume, structure by structure, every field by its name in linux/gfs2_ondisk.h.
///
/// Reads past every cache and without locks: of a volume that is mounted, what the nodes have not written yet is not
/// there. Damage is shown, not refused, as far as there is something to show.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "base/task.h"
#include "journal/log_reader.h"
#include "offline/volume_reader.h"
#include "tools/corral/block_details.h"

namespace corral {

class VolumeDump {
 public:
  VolumeDump(Executor& executor, const VolumeReader& volume) : executor_(executor), volume_(volume) {}

  Task<Result<DumpJson>> superblock() const;
  /// Every resource group: its entry in the rindex file, and its header.
  Task<Result<DumpJson>> resource_groups() const;
  /// The log of a journal from its tail to its head, in order, each block decoded; with `all`, the whole journal.
  Task<Result<DumpJson>> journal(std::uint32_t number, bool all) const;
  /// The dinode at that block, or at the end of that path from the root ("/"), its attributes, and where its data lies.
  Task<Result<DumpJson>> inode(std::string path_or_number) const;
  /// The names in a directory, with the leaves that hold them.
  Task<Result<DumpJson>> directory(std::string path_or_number) const;
  /// The cluster area, both copies of header and view, without the secret.
  Task<Result<DumpJson>> cluster_area() const;
  /// A block's fields if it is metadata, what stands behind them, and its bytes.
  Task<Result<DumpJson>> block(std::string number) const;

  /// A dump as lines for people: a name and its value, lists below each other.
  static std::string text(const DumpJson& dump);

 private:
  Task<Result<OfflineInode>> find(std::string path_or_number) const;
  Task<Result<DumpJson>> attributes(const OfflineInode& inode) const;
  Task<Result<DumpJson>> leaves(const OfflineInode& directory) const;
  Task<Result<>> add_log_blocks(JournalAccess journal, std::uint32_t first, std::uint32_t count, DumpJson& into) const;

  Executor& executor_;
  const VolumeReader& volume_;
};

}  // namespace corral
