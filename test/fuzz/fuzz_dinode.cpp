#include <sys/stat.h>

#include "ondisk/validate.h"
#include "test/fuzz/input.h"

using namespace corral;
using namespace corral::ondisk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto block = fuzz::block_of(data, size);
  const Geometry geometry(static_cast<std::uint32_t>(block.size()));
  const auto& dinode = view<Dinode>(block);
  if (!check_dinode(block, BlockNo(dinode.num.addr), geometry)) return 0;
  if (dinode.height == 0) {
    fuzz::touch(std::span(block).subspan(sizeof(Dinode), dinode.size));
  } else {
    CHECK_INVARIANT(geometry.height_capacity_blocks(dinode.height) > 0);
  }
  if (S_ISDIR(dinode.mode) && (dinode.flags & kDinodeHashedDirectory) != 0)
    CHECK_INVARIANT(dinode.size == std::uint64_t{8} << dinode.depth);
  return 0;
}
