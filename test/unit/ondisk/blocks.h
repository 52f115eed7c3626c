/// Sound blocks to damage in tests.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>

#include "ondisk/checksum.h"
#include "ondisk/layout.h"
#include "ondisk/validate.h"
#include "test/support/catch.h"

namespace corral::ondisk::test {

using Block = std::vector<std::byte>;

/// The check failed as damage on disk, and its message has that text.
template <class T>
void check_corrupt(const Result<T>& result, std::string_view text) {
  REQUIRE(!result);
  CHECK(result.error().kind() == ErrorKind::corrupt);
  CHECK(result.error().code() == EIO);
  INFO(result.error().message());
  CHECK(result.error().message().find(text) != std::string::npos);
}

inline Block make_block(MetaType type, std::size_t block_size = 4096) {
  Block block(block_size);
  view<MetaHeader>(block).set(type);
  return block;
}

inline Block make_dinode(std::uint64_t address, std::uint32_t mode, std::uint64_t size, std::size_t block_size = 4096) {
  Block block = make_block(MetaType::dinode, block_size);
  auto& dinode = view<Dinode>(block);
  dinode.num = {.formal_ino = 7, .addr = address};
  dinode.mode = mode;
  dinode.size = size;
  return block;
}

/// Puts a dirent at `offset`; inode number 0 makes it unused.
inline void put_dirent(Block& block, std::size_t offset, std::uint16_t record_length, std::uint64_t inode,
                       std::string_view name) {
  auto& dirent = view<Dirent>(block, offset);
  dirent.inum = {.formal_ino = inode, .addr = inode};
  dirent.record_length = record_length;
  dirent.name_length = static_cast<std::uint16_t>(name.size());
  dirent.hash = name_hash(name);
  std::memcpy(dirent.name(), name.data(), name.size());
}

}  // namespace corral::ondisk::test
