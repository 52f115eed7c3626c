/// A client of a node: one deed after another on what all nodes share, in bursts, each written into the histories.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "test/sim/cluster/host.h"
#include "test/sim/cluster/shared_objects.h"
#include "test/sim/cluster/swarm.h"

namespace corral::sim {

/// Works until the host is wound down, or its life ends.
Task<void> run_user(Simulation& simulation, Host& host, std::uint64_t seed);

class User {
 public:
  User(Simulation& simulation, Host& host, Random random);

  Task<void> run();
  /// Looks the shared directories and files up, as every life must.
  Task<Result<>> find_everything();
  /// Reads all that is shared, once.
  Task<void> look_at_everything();

 private:
  using Kind = Operation::Kind;
  /// Where an operation is written down. Histories grow while it is under way.
  struct Entry {
    std::vector<Operation>* history;
    std::size_t index;
    Operation& operator*() const { return (*history)[index]; }
    Operation* operator->() const { return &(*history)[index]; }
  };

  Entry begin(std::vector<Operation>& history, Operation operation);
  /// The answer is here. False where it was an error that says nothing about what happened.
  bool end(const Entry& entry, int error, std::initializer_list<int> answers = {});
  void tell(const std::string& deed, int error);
  /// Whether the node's state explains an error of the device's.
  bool excused() const;
  bool answers_leave() const;
  Deed draw_deed();
  Task<void> act(Deed deed);

  // user_files.cpp
  Task<void> work_on_file(SharedFile& file, Deed deed);
  Task<void> read_file(SharedFile& file);
  Task<void> read_size(SharedFile& file);
  Task<void> write_slots(SharedFile& file);
  Task<void> append_slot(SharedFile& file);
  Task<void> truncate_file(SharedFile& file);
  Task<void> sync_file(SharedFile& file);
  std::vector<SlotValue> slots_of(const SharedFile& file, std::span<const std::byte> contents);
  Task<void> big_file();

  // user_freeze.cpp
  Task<void> freeze();

  // user_names.cpp
  Task<void> work_on_names(SharedDirectory& directory, Deed deed);
  Task<void> create(SharedDirectory& directory, std::uint32_t name);
  Task<void> remove(SharedDirectory& directory, std::uint32_t name);
  Task<void> lookup(SharedDirectory& directory, std::uint32_t name);
  Task<void> list(SharedDirectory& directory);
  Task<void> move(SharedDirectory& directory, std::uint32_t from, std::uint32_t to, bool exchange);
  Task<void> move_across(SharedDirectory& from_directory, SharedDirectory& to_directory, std::uint32_t from,
                         std::uint32_t to);
  Task<void> link(SharedDirectory& directory, std::uint32_t name);
  Task<void> use_found(SharedDirectory& directory, std::uint32_t name);
  Task<void> use_orphan(SharedDirectory& directory, std::uint32_t name);
  Task<void> sync_directory(SharedDirectory& directory);
  Task<void> sync_all();
  Task<void> many_files();
  Task<void> private_tree();
  SharedFile& made_file(InodeTag tag, BlockNo inode, const std::string& name);

  Operations& operations() { return host_.mount().operations(); }
  std::string fresh_name(std::string_view kind);

  Simulation& simulation_;
  Host& host_;
  LifeId life_;
  SharedObjects& objects_;
  Random random_;
};

inline std::string name_text(std::uint32_t name) {
  return "name" + std::to_string(name);
}

}  // namespace corral::sim
