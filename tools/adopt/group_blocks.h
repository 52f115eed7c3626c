/// Taking and giving back a run of blocks in a resource group of a volume that is not mounted.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "offline/offline_transaction.h"
#include "ondisk/layout.h"

namespace corral {

/// The volume's resource groups, in the order of the rindex file, each checked.
Task<Result<std::vector<ondisk::ResourceGroupIndexEntry>>> read_rindex(const VolumeReader& volume);

/// The first run of so many free blocks within one group. ENOSPC where there is none.
Task<Result<BlockNo>> find_free_run(const VolumeReader& volume, std::uint32_t blocks);

/// Puts a run, all of one group and a dinode at its start, from free to used (`take`) or back. A block that is not in
/// the state it must be in is a corrupt error. Changes bitmaps and counts of the group.
Task<Result<>> mark_run(OfflineTransaction& transaction, BlockNo first, std::uint32_t blocks, bool take);

}  // namespace corral
