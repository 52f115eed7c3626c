#include "fsck/volume.h"

namespace corral::fsck {

Task<Result<BlockBytes>> Volume::read(BlockNo block) {
  CHECK_INVARIANT(block.value < blocks);
  BlockBytes bytes(geometry.block_size());
  CO_TRY_VOID(co_await disk.fetch(geometry.offset_bytes(block), bytes));
  co_return bytes;
}

Result<> Volume::excuse(Result<> done) {
  if (done || done.error().kind() == ErrorKind::device) return done;
  findings.failed();
  return {};
}

}  // namespace corral::fsck
