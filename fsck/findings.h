/// What a check found, and what is to become of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/strong.h"

namespace corral::fsck {

/// The structure that is wrong; names stand in reports (see name_of).
enum class Kind : std::uint8_t {
  superblock,
  resource_index,
  resource_group,
  bitmap,
  journal,
  dinode,
  block_pointer,
  duplicate_block,
  extended_attributes,
  directory,
  directory_entry,
  link_count,
  orphan,
  unlinked_inode,
  system_file,
  statfs,
  quota,
  cluster_area,
};
std::string_view name_of(Kind kind);

/// One thing that is wrong, with its repair.
struct Finding {
  Kind kind;
  BlockNo block;        ///< of the structure
  std::string problem;  ///< what is wrong, with the names and numbers of what it concerns
  std::string repair;   ///< what would be done, as an order: "set it to 3"
};

/// What became of a finding.
enum class Outcome : std::uint8_t {
  told,      ///< nothing is to be written: the rest of the check goes on as if it were repaired
  repaired,  ///< decided; written with the next commit
  declined,
};

/// Collects findings and decides on each: the only way from a pass to a repair.
class Findings {
 public:
  /// Given each finding once, in order; answers what becomes of it. May block (a question on a terminal).
  using Decide = std::function<Outcome(const Finding&)>;
  explicit Findings(Decide decide) : decide_(std::move(decide)) {}

  /// True if the repair is to be made in the working copy.
  bool add(const Finding& finding);

  /// The repair of the finding last added could not be made: there is no room for it on the volume.
  void failed() { ++remaining_; }

  std::uint64_t count() const { return count_; }
  std::uint64_t remaining() const { return remaining_; }

 private:
  Decide decide_;
  std::uint64_t count_ = 0;
  std::uint64_t remaining_ = 0;
};

}  // namespace corral::fsck
