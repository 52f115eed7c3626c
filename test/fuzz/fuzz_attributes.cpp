#include "ondisk/ea_walker.h"
#include "test/fuzz/input.h"

using namespace corral;
using namespace corral::ondisk;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto block = fuzz::block_of(data, size);
  EaWalker walker(block, BlockNo(9), size % 2 == 0 ? kFilesystemFormatMax : kFilesystemFormatMin);
  std::size_t end = 0;
  for (;;) {
    auto record = walker.next();
    if (!record || !*record) break;
    CHECK_INVARIANT((*record)->offset_bytes >= end);
    end = (*record)->offset_bytes + (*record)->record_bytes;
    CHECK_INVARIANT(end <= block.size() && (!(*record)->last || end == block.size()));
    fuzz::touch((*record)->name);
    fuzz::touch((*record)->value);
    fuzz::touch(std::as_bytes((*record)->pointers));
  }
  return 0;
}
