#include "fs/symlink_target.h"

#include <sys/stat.h>

#include "ondisk/validate.h"

namespace corral {

bool fits_in_dinode(const ondisk::Geometry& geometry, const std::string& target) {
  // The kernel's GFS2 refuses what would fill the block to its end.
  return target.size() < geometry.stuffed_bytes();
}

std::string symlink_contents(const ondisk::Geometry& geometry, const std::string& target) {
  if (fits_in_dinode(geometry, target)) return target;
  std::string notice = "(the target of " + std::to_string(target.size()) + " bytes is in the attribute " +
                       kSymlinkTarget.full() + ", which only Corral follows)";
  notice.resize(ondisk::kNameMaxBytes + 1, '.');
  return notice;
}

bool target_is_attribute(const ondisk::Dinode& dinode) {
  return S_ISLNK(dinode.mode) && dinode.entries != 0;
}

std::uint64_t target_bytes(const ondisk::Dinode& dinode) {
  return target_is_attribute(dinode) ? std::uint64_t{dinode.entries} : std::uint64_t{dinode.size};
}

}  // namespace corral
