/// Changes to metadata of a volume that is not mounted, all or none of them: they are logged in journal 0 and then
/// replayed from there, so a cut at any moment leaves a volume that any replay brings to one of the two states.
#pragma once

#include <map>
#include <span>

#include "base/aligned_buffer.h"
#include "base/log.h"
#include "base/result.h"
#include "base/task.h"
#include "offline/volume_reader.h"

namespace corral {

class OfflineTransaction {
 public:
  /// `volume` outlives the transaction. Nobody else may use the volume meanwhile.
  explicit OfflineTransaction(const VolumeReader& volume) : volume_(volume) {}

  const VolumeReader& volume() const { return volume_; }
  /// The block as this transaction has it, for reading and changing. Stays valid until the commit.
  Task<Result<std::span<std::byte>>> change(BlockNo block);
  /// Logs what was changed and replays it; afterwards it is stable and the journal clean. All journals were clean
  /// before (EBUSY). EFBIG for more blocks than one log descriptor names.
  Task<Result<>> commit(Executor& executor, WallTime now, Logger log);

 private:
  const VolumeReader& volume_;
  std::map<BlockNo, AlignedBuffer> blocks_;
};

/// EBUSY with a message if a journal of the volume is dirty.
Task<Result<>> check_journals_clean(Executor& executor, const VolumeReader& volume);

}  // namespace corral
