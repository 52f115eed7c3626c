/// What every part of the filesystem stands on: the seams, the volume's figures, the cache, the journal and the glocks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/task.h"
#include "disk/device.h"
#include "fs/glock.h"
#include "fs/mount_options.h"
#include "journal/block_cache.h"
#include "journal/journal.h"
#include "ondisk/geometry.h"

namespace corral {

/// Shared context of a mount; owned by Filesystem, outlives all parts. Not a place for the parts' own state.
struct Volume {
  Executor& executor;
  const Clock& clock;
  Device& device;
  Logger log;
  const MountOptions& options;
  const ondisk::Geometry& geometry;
  BlockCache& cache;
  GlockTable& glocks;
  Random random;
  /// Null on read-only and spectator mounts: check writable() first.
  Journal* journal = nullptr;
  /// Set once by withdraw(): nothing may be written any more.
  bool withdrawn = false;
  std::string withdraw_reason;
  /// Installed by Filesystem: reacts to the withdraw (errors=panic, log, glock refusal).
  std::function<void(const Error&)> on_withdraw;

  bool writable() const { return journal != nullptr && !withdrawn; }
  /// Metadata can no longer be trusted or written: stop all writing, fail what follows with EIO, say why. Idempotent.
  void withdraw(const Error& reason);
  /// EROFS on a read-only mount, EIO after a withdraw, else success.
  Result<> check_writable() const;

  /// The right to change the volume: the freeze glock, in kChangeMode. Whoever begins transactions has it, and before
  /// any other glock, so that nobody who waits for the end of a freeze is in the way of readers. Waits while the volume
  /// is frozen.
  Task<Result<GlockHolder>> change();
  /// Empty where that would have to wait, or nothing may be written.
  std::optional<GlockHolder> try_change();
  /// For what somebody who changes the volume already does or may wait for: goes along with that one, although a freeze
  /// is waited for.
  Task<Result<GlockHolder>> join_change();
  std::optional<GlockHolder> try_join_change();
};

}  // namespace corral
