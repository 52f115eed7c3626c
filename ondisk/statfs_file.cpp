#include "ondisk/statfs_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "ondisk/validate.h"

namespace corral::ondisk {

namespace {
std::int64_t signed_count(const be64& count) {
  return static_cast<std::int64_t>(count.value());
}
}  // namespace

Result<> check_statfs_file(std::span<const std::byte> block, BlockNo inode, const Geometry& geometry) {
  TRY_VOID(check_dinode(block, inode, geometry));
  const auto& dinode = view<Dinode>(block);
  if (!S_ISREG(dinode.mode) || dinode.height != 0 || dinode.size < sizeof(StatfsChange))
    return fail_corrupt("inode {}: height {} and size {}, expected a statfs file", inode.value, dinode.height.value(),
                        dinode.size.value());
  return {};
}

std::string describe_statfs_update(const StatfsChange& sum, const StatfsChange& change) {
  return fmt::format("Updated master statfs Total:{}, Free:{}, Dinodes:{} after change [{:+},{:+},{:+}]",
                     signed_count(sum.total), signed_count(sum.free), signed_count(sum.dinodes),
                     signed_count(change.total), signed_count(change.free), signed_count(change.dinodes));
}

}  // namespace corral::ondisk
