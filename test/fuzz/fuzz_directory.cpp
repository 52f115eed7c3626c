// A leaf, or the dinode of a directory that is not hashed.
#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"
#include "test/fuzz/input.h"

using namespace corral;
using namespace corral::ondisk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto block = fuzz::block_of(data, size);
  if (!check_leaf(block, BlockNo(9), kDirMaxDepth) && !has_meta_type(block, MetaType::dinode)) return 0;
  DirentWalker walker(block, BlockNo(9));
  std::size_t end = 0;
  for (;;) {
    auto dirent = walker.next();
    if (!dirent || *dirent == nullptr) break;
    CHECK_INVARIANT(walker.offset_bytes() >= end);
    end = walker.offset_bytes() + (*dirent)->record_length;
    CHECK_INVARIANT(end <= block.size());
    if (!is_unused(**dirent)) fuzz::touch(name_of(**dirent));
  }
  return 0;
}
