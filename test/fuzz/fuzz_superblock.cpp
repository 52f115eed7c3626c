#include "ondisk/validate.h"
#include "test/fuzz/input.h"

using namespace corral;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto info = ondisk::parse_superblock(fuzz::block_of(data, size), std::uint64_t{1} << 40);
  if (!info) return 0;
  CHECK_INVARIANT(info->root_dir.addr < (std::uint64_t{1} << 40) / info->geometry.block_size());
  fuzz::touch(info->lock_protocol);
  fuzz::touch(info->lock_table);
  return 0;
}
