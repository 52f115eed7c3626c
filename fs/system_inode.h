/// Reading the volume's own files (rindex, statfs, quota, ...), which are known by reference from the mount on.
#pragma once

#include <functional>
#include <span>

#include "base/result.h"
#include "base/task.h"
#include "fs/inode.h"
#include "fs/metadata_tree.h"
#include "fs/volume.h"

namespace corral {

/// Takes the inode's glock and reads its dinode; a corrupt error if the block holds something else.
Task<Result<LockedInode>> lock_system_inode(Volume& volume, InodeRef inode, GlockMode mode);

/// Reads the file from its start, past the block cache and in large pieces; for contents that nobody changes meanwhile.
/// `sink` gets them in order, each piece but the last a multiple of the block size; its error ends the reading. A hole
/// is a corrupt error.
using SystemFileSink = std::function<Result<>(std::span<const std::byte>)>;
Task<Result<>> read_system_file(Volume& volume, MetadataTree& tree, const LockedInode& inode,
                                const SystemFileSink& sink);

}  // namespace corral
