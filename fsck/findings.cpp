#include "fsck/findings.h"

namespace corral::fsck {

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::superblock:
      return "superblock";
    case Kind::resource_index:
      return "resource-index";
    case Kind::resource_group:
      return "resource-group";
    case Kind::bitmap:
      return "bitmap";
    case Kind::journal:
      return "journal";
    case Kind::dinode:
      return "dinode";
    case Kind::block_pointer:
      return "block-pointer";
    case Kind::duplicate_block:
      return "duplicate-block";
    case Kind::extended_attributes:
      return "extended-attributes";
    case Kind::directory:
      return "directory";
    case Kind::directory_entry:
      return "directory-entry";
    case Kind::link_count:
      return "link-count";
    case Kind::orphan:
      return "orphan";
    case Kind::unlinked_inode:
      return "unlinked-inode";
    case Kind::system_file:
      return "system-file";
    case Kind::statfs:
      return "statfs";
    case Kind::quota:
      return "quota";
    case Kind::cluster_area:
      return "cluster-area";
  }
  return "unknown";
}

bool Findings::add(const Finding& finding) {
  ++count_;
  const Outcome outcome = decide_(finding);
  if (outcome != Outcome::repaired) ++remaining_;
  return outcome != Outcome::declined;
}

}  // namespace corral::fsck
