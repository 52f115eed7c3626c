#include "tools/mkfs/new_cluster.h"

#include <unistd.h>

#include "base/check.h"

namespace corral::mkfs {

cluster::Header new_cluster() {
  cluster::Header header;
  // Fails for more than 256 bytes at a time only.
  CHECK_INVARIANT(getentropy(header.cluster.data(), header.cluster.size()) == 0);
  CHECK_INVARIANT(getentropy(header.secret.data(), header.secret.size()) == 0);
  header.cluster[6] = static_cast<std::uint8_t>((header.cluster[6] & 0x0F) | 0x40);
  header.cluster[8] = static_cast<std::uint8_t>((header.cluster[8] & 0x3F) | 0x80);
  return header;
}

}  // namespace corral::mkfs
