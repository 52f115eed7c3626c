/// Which blocks of a volume are metadata, judged as fsck.corral judges it: by what refers to them, as far as damage
/// lets anybody see.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string_view>

#include "base/result.h"
#include "base/task.h"
#include "fsck/volume.h"
#include "ondisk/layout.h"
#include "tools/image/block_set.h"

namespace corral::image {

struct Selection {
  ondisk::Superblock superblock{};  ///< as repaired where it is damaged
  BlockSet blocks;                  ///< all to be saved
  BlockSet whole;                   ///< of those, what can be no user's, whatever it looks like
  BlockSet journals;                ///< of those, the blocks of journals
  BlockSet log_of_metadata;         ///< of those, log blocks that hold a state of one that is to be saved
  std::set<BlockNo> system;         ///< dinodes of system files
  std::uint64_t inodes = 0;
  /// What fsck.corral would say of the structures looked at, but for journals.
  std::uint64_t findings = 0;

  void add_whole(BlockNo block) {
    blocks.insert(block);
    whole.insert(block);
  }
};

struct SelectionOptions {
  /// Read every block that is in use, and take whatever begins as metadata.
  bool scan = false;
  fsck::Progress progress;
};

/// Looks at the volume as it stands and, where journals are dirty, as it will be once they are replayed; writes
/// nothing. Where no resource group can be found the whole device is searched for what begins as metadata. Memory: that
/// of a check (fsck/check.h), and a bit for each block. EINVAL where the device shows no sign of a GFS2 volume.
Task<Result<Selection>> select_metadata(Executor& executor, Device& device, SelectionOptions options);

}  // namespace corral::image
