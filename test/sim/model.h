/// A plain model of a tree of files, to compare the filesystem with.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/strong.h"

namespace corral::sim {

using ModelNodeId = std::uint32_t;
using Bytes = std::vector<std::byte>;

enum class NodeType { file, directory, symlink };

/// One inode as it should be. Copies share the contents.
struct Node {
  NodeType type = NodeType::file;
  BlockNo inode;
  std::uint32_t mode = 0;
  std::uint32_t uid = 1000;
  std::uint32_t gid = 1000;
  std::uint32_t flags = 0;  ///< FS_*_FL
  std::uint32_t links = 1;  ///< names of a file
  std::shared_ptr<const Bytes> contents = std::make_shared<Bytes>();
  std::map<std::string, ModelNodeId> entries;
  std::map<std::string, std::string> xattrs;
  std::string target;
};

/// All inodes of one client's directory, by number; node 0 is the directory itself.
using Tree = std::map<ModelNodeId, Node>;

}  // namespace corral::sim
