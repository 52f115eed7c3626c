/// What the volume's books say of users' and groups' blocks, and what their files really use. From the disk, of a
/// volume that nobody has mounted and whose journals are clean; nothing is written.
#pragma once

#include <cstdint>
#include <map>
#include <stop_token>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "fs/quota_changes.h"
#include "offline/volume_reader.h"

namespace corral {

/// Blocks of the volume, by user and group; who has none is missing.
using QuotaUsage = std::map<QuotaId, std::int64_t>;

struct QuotaBooks {
  QuotaUsage recorded;  ///< the quota file, and what nodes have charged and not moved there
  /// Those whose quota_changeN holds anything, which a mount with that journal moves to the quota file.
  std::vector<JournalId> with_changes;
};
/// Corrupt where a file cannot be what it should be; the device's errors.
Task<Result<QuotaBooks>> read_quota_books(const VolumeReader& volume);

/// Counts the blocks of every inode, those without a link that were not freed yet included, but for the volume's own
/// files. ECANCELED when it was stopped; corrupt, with the inode, where one cannot be read: that is fsck's business.
Task<Result<QuotaUsage>> count_usage(const VolumeReader& volume, std::stop_token stop);

struct QuotaDifference {
  QuotaId id;
  std::int64_t recorded = 0;
  std::int64_t used = 0;
};
std::vector<QuotaDifference> compare(const QuotaUsage& recorded, const QuotaUsage& used);

}  // namespace corral
