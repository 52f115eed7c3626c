/// Targets of symbolic links.
///
/// GFS2 keeps a target behind the dinode, where one of 4095 bytes (PATH_MAX less the final zero), which POSIX allows,
/// finds no room. Such a target stands in an extended attribute, its length in di_entries (of use to directories only).
/// Other implementations see a symlink whose contents say so and whose one name is longer than any name may be: they
/// follow it nowhere (ENAMETOOLONG), and keep attribute and length as they are.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "fs/extended_attributes.h"
#include "ondisk/geometry.h"
#include "ondisk/layout.h"

namespace corral {

/// The attribute that holds a long target; no other use of its name is allowed.
inline constexpr AttributeName kSymlinkTarget{ondisk::EaType::security, "corral.symlink_target"};

/// PATH_MAX is the kernel's limit for what it follows, with the final zero.
inline constexpr std::size_t kSymlinkTargetMaxBytes = 4095;

bool fits_in_dinode(const ondisk::Geometry& geometry, const std::string& target);
/// What stands behind the dinode: the target, or the notice that it is elsewhere.
std::string symlink_contents(const ondisk::Geometry& geometry, const std::string& target);

/// Of a symlink's dinode: where the target is, and its length.
bool target_is_attribute(const ondisk::Dinode& dinode);
std::uint64_t target_bytes(const ondisk::Dinode& dinode);

}  // namespace corral
