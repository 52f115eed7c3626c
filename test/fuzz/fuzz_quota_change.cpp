#include "ondisk/validate.h"
#include "test/fuzz/input.h"

using namespace corral;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto block = fuzz::block_of(data, size);
  if (auto records = ondisk::quota_changes(block, BlockNo(9))) fuzz::touch(std::as_bytes(*records));
  return 0;
}
