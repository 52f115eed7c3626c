/// The files and directories on which the clients of all nodes meet, with the history of each.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/strong.h"
#include "fs/operations.h"
#include "test/sim/cluster/history.h"

namespace corral::sim {

struct SharedFile {
  std::string name;
  BlockNo inode;
  std::uint32_t slot_bytes = 4096;
  std::uint32_t slots_most = 8;
  std::vector<Operation> history;
};

struct SharedDirectory {
  std::string name;
  BlockNo inode;
  std::vector<Operation> history;
};

/// Address and generation of an inode as one number.
inline InodeTag tag_of(const Attributes& attributes) {
  return attributes.inode.value << 20 | (attributes.generation & 0xFFFFF);
}

class SharedObjects {
 public:
  BlockNo top;                    ///< the directory in which they all are
  std::vector<SharedFile> files;  ///< never removed
  std::vector<SharedDirectory> directories;
  /// Files that were made in the directories, while the run lasts.
  std::map<InodeTag, SharedFile> made;
  std::uint32_t names = 8;
  Mixtures mixtures;

  Step next_step() { return ++step_; }
  SlotValue next_value() { return ++value_; }

  static Operation& begin(std::vector<Operation>& history, Operation operation, Step step) {
    operation.begin = step;
    history.push_back(std::move(operation));
    return history.back();
  }
  template <class Each>
  void for_each_history(Each each) {
    for (SharedFile& file : files)
      each(file.history);
    for (SharedDirectory& directory : directories)
      each(directory.history);
    for (auto& [tag, file] : made)
      each(file.history);
  }
  /// The life is over: what it did alone may be undone, from now until end_death(). `with_disk`: the disk has lost
  /// power as well.
  void begin_death(LifeId life, bool with_disk);
  void end_death(LifeId life);
  /// Judges all histories; the first violation as a message. `undecided` counts those that were too involved.
  std::optional<std::string> judge(std::uint64_t& undecided) const;

 private:
  std::optional<std::string> judge_file(const SharedFile& file, std::uint64_t& undecided) const;

  Step step_ = 0;
  SlotValue value_ = 0;
};

}  // namespace corral::sim
