#include "tools/adopt/superblock.h"

#include <algorithm>

#include "ondisk/text_field.h"

namespace corral {

Task<Result<>> change_superblock(const VolumeReader& volume, SuperblockChange change) {
  Device& device = volume.device();
  AlignedBuffer sector(std::max<std::size_t>(device.geometry().sector_bytes, ondisk::kBasicBlockBytes), false);
  CO_TRY_VOID(co_await device.read(ondisk::kSuperblockOffsetBytes, sector.span()));
  auto& superblock = ondisk::view<ondisk::Superblock>(sector.span());
  if (change.lock_protocol) ondisk::set_text(superblock.lock_protocol, *change.lock_protocol);
  if (change.lock_table) ondisk::set_text(superblock.lock_table, *change.lock_table);
  if (change.uuid) superblock.uuid = *change.uuid;
  co_return co_await device.write(ondisk::kSuperblockOffsetBytes, sector.span(), WriteMode::write_through);
}

}  // namespace corral
