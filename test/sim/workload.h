/// A seeded client of a mounted filesystem: random operations of every kind in a directory of its own, one after
/// another, each checked against a model, with a record of what a crash at any moment must leave.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "base/task.h"
#include "disk/simulated_disk.h"
#include "fs/operations.h"
#include "test/sim/model.h"

namespace corral::sim {

class Client {
 public:
  /// Works in the directory `name` of the root, which it makes.
  Client(Operations& operations, const SimulatedDisk& disk, BlockNo root, std::string name, std::uint64_t seed);

  /// Runs `count` operations and a last sync; the first disagreement with the model ends it with a message.
  Task<void> run(std::uint32_t count);
  /// On a volume that is full operations may end with ENOSPC: they have had no effect then, or, for those that change
  /// a range of a file, on some of it.
  void expect_full() { may_be_full_ = true; }
  /// On a device that fails or keeps the node out, the first EIO or EBADE ends the client's work without a
  /// disagreement.
  void expect_failure() { may_fail_ = true; }
  bool failed() const { return failure_.has_value(); }
  const std::optional<Error>& failure() const { return failure_; }
  const std::optional<std::string>& disagreement() const { return disagreement_; }
  const std::string& name() const { return name_; }

  /// What must be there after a crash at that event of the disk: the state of the last sync that had returned, except
  /// for the nodes that operations begun since may have changed; and files whose fsync had returned.
  struct Durable {
    Tree tree;
    std::set<ModelNodeId> uncertain;
    bool exists = false;  ///< false: not even the client's directory is certain
  };
  Durable durable_at(std::uint64_t event) const;
  /// The model as it is now.
  const Tree& tree() const { return tree_; }

 private:
  struct Record {
    std::uint64_t begin_event;
    std::vector<ModelNodeId> touched;
  };
  struct SyncPoint {
    std::uint64_t end_event;
    std::size_t records;  ///< operations begun before it
    Tree tree;
    std::optional<ModelNodeId> only;  ///< fsync of one file: only its contents are certain
  };

  Task<Result<>> step();
  Task<Result<>> make_file();
  Task<Result<>> make_directory();
  Task<Result<>> make_symlink();
  Task<Result<>> write_file();
  Task<Result<>> truncate_file();
  Task<Result<>> punch_file();
  Task<Result<>> add_link();
  Task<Result<>> remove_name();
  Task<Result<>> rename_name();
  Task<Result<>> change_mode();
  Task<Result<>> set_xattr();
  Task<Result<>> remove_xattr();
  Task<Result<>> read_back();
  Task<Result<>> fsync_file();
  Task<Result<>> sync_all();
  // workload_special.cpp
  Task<Result<>> special_step();
  Task<Result<>> exchange_names();
  Task<Result<>> toggle_journaled_data();
  Task<Result<>> allocate_range();
  Task<Result<>> change_owner();
  Task<Result<>> set_acl();
  Task<Result<>> open_and_unlink();
  Task<Result<>> close_orphan();
  Task<Result<>> name_the_nameless();
  Task<Result<>> copy_part();
  Task<Result<>> write_through();
  Task<Result<>> crowd_directory();

  /// True for an error that the circumstances allow; notes a failure.
  bool expected(const Error& error);
  /// Takes a file's contents as they are, where an operation may have had part of its effect.
  Task<Result<>> take_contents(ModelNodeId file);
  void begin(std::vector<ModelNodeId> touched);
  std::optional<ModelNodeId> any(NodeType type);
  ModelNodeId any_directory();
  struct Name {
    ModelNodeId directory;
    std::string name;
    ModelNodeId node;
  };
  std::optional<Name> any_name();
  std::string fresh_name(ModelNodeId directory);
  bool is_below(ModelNodeId node, ModelNodeId ancestor) const;
  void unlink_node(ModelNodeId node);
  Bytes random_bytes(std::size_t count);
  ModelNodeId add(ModelNodeId directory, const std::string& name, Node node);

  static constexpr std::size_t kMostFiles = 60;

  Operations& operations_;
  const SimulatedDisk& disk_;
  BlockNo root_;
  std::string name_;
  Random random_;
  Tree tree_;
  ModelNodeId next_node_ = 1;
  std::vector<Record> records_;
  std::vector<SyncPoint> syncs_;
  bool may_be_full_ = false;
  bool may_fail_ = false;
  std::optional<Error> failure_;
  std::vector<BlockNo> orphans_;  ///< open, without a name
  std::optional<std::string> disagreement_;
};

/// Compares a mounted filesystem with what must be there; the first difference as a message.
Task<std::optional<std::string>> compare(Operations& operations, BlockNo root, std::string name,
                                         const Client::Durable& durable);

}  // namespace corral::sim
