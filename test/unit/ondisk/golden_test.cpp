// Every structure of volumes that the kernel filled passes our checks, and every checksum is as we compute it.
#include "test/support/golden.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <sys/stat.h>

#include "ondisk/checksum.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/ea_walker.h"
#include "ondisk/validate.h"
#include "test/support/catch.h"
#include "test/support/must.h"

using namespace corral;
using namespace corral::ondisk;
using corral::test::must;

namespace {

using Block = std::vector<std::byte>;

/// Walks a whole volume, checking whatever it meets.
class Reader {
 public:
  explicit Reader(const test::GoldenImage& image)
      : image_(image), info_(must(parse_superblock(image.read(kSuperblockOffsetBytes, 512), image.size_bytes()))) {}

  const SuperblockInfo& info() const { return info_; }
  const Geometry& geometry() const { return info_.geometry; }
  std::uint64_t volume_blocks() const { return image_.size_bytes() >> geometry().block_shift(); }
  Block block(BlockNo address) const { return image_.read(geometry().offset_bytes(address), geometry().block_size()); }

  Block dinode(BlockNo address) {
    Block bytes = block(address);
    must(check_dinode(bytes, address, geometry()));
    ++dinodes;
    return bytes;
  }

  /// The data blocks of an inode's tree by their place in the file; every indirect block on the way is checked.
  std::map<std::uint64_t, BlockNo> data_blocks(const Block& inode) {
    const auto& head = view<Dinode>(inode);
    std::map<std::uint64_t, BlockNo> found;
    if (head.height > 0) collect_data(inode, sizeof(Dinode), BlockNo(head.num.addr), head.height, 0, found);
    return found;
  }

  void collect_data(const Block& holder, std::size_t header, BlockNo address, std::uint32_t height, std::uint64_t place,
                    std::map<std::uint64_t, BlockNo>& found) {
    for (be64 pointer : pointers(holder, header)) {
      BlockNo below(pointer);
      if (below) {
        must(check_pointer(below, address, "a pointer", geometry(), volume_blocks()));
        if (height == 1) {
          found.emplace(place, below);
        } else {
          Block indirect = block(below);
          must(check_meta_header(indirect, below, MetaType::indirect));
          collect_data(indirect, sizeof(MetaHeader), below, height - 1, place * geometry().indirect_pointers(), found);
        }
      }
      ++place;
    }
  }

  Block contents(const Block& inode, bool directory = false) {
    const auto& head = view<Dinode>(inode);
    if (head.height == 0)
      return Block(inode.begin() + sizeof(Dinode),
                   inode.begin() + static_cast<std::ptrdiff_t>(sizeof(Dinode) + head.size));
    const std::size_t header = directory ? sizeof(MetaHeader) : 0;
    const std::size_t payload = geometry().block_size() - header;
    Block result;
    for (auto [place, address] : data_blocks(inode)) {
      CHECK(place * payload == result.size());
      Block bytes = block(address);
      if (directory) must(check_meta_header(bytes, address, MetaType::journaled_data));
      result.insert(result.end(), bytes.begin() + static_cast<std::ptrdiff_t>(header), bytes.end());
    }
    result.resize(head.size);
    return result;
  }

  std::map<std::string, BlockNo> entries(const Block& inode) {
    std::map<std::string, BlockNo> result;
    const auto& head = view<Dinode>(inode);
    if ((head.flags & kDinodeHashedDirectory) == 0) {
      collect(inode, BlockNo(head.num.addr), result);
    } else {
      std::set<BlockNo> seen;
      Block table = contents(inode, true);
      for (be64 pointer : pointers(table, 0)) {
        for (BlockNo leaf(pointer); leaf && seen.insert(leaf).second;) {
          Block bytes = block(leaf);
          must(check_leaf(bytes, leaf, head.depth));
          ++leaves;
          std::size_t before = result.size();
          collect(bytes, leaf, result);
          CHECK(result.size() - before == view<Leaf>(bytes).entries);
          leaf = BlockNo(view<Leaf>(bytes).next);
        }
      }
    }
    CHECK(result.size() == head.entries);
    return result;
  }

  void collect(const Block& bytes, BlockNo address, std::map<std::string, BlockNo>& result) {
    DirentWalker walker(bytes, address);
    while (const Dirent* dirent = must(walker.next())) {
      CHECK(&view<Dirent>(bytes, walker.offset_bytes()) == dirent);
      if (is_unused(*dirent)) continue;
      CHECK(is_valid_name(name_of(*dirent)));
      CHECK(dirent->hash == name_hash(name_of(*dirent)));
      result.emplace(name_of(*dirent), BlockNo(dirent->inum.addr));
    }
  }

  void attributes(const Block& inode) {
    const auto& head = view<Dinode>(inode);
    if (head.eattr == 0) return;
    BlockNo address(head.eattr);
    must(check_pointer(address, BlockNo(head.num.addr), "di_eattr", geometry(), volume_blocks()));
    if ((head.flags & kDinodeEaIndirect) == 0) return attribute_block(address);
    Block indirect = block(address);
    must(check_meta_header(indirect, address, MetaType::indirect));
    for (be64 pointer : pointers(indirect, sizeof(MetaHeader))) {
      if (pointer != 0) attribute_block(BlockNo(pointer));
    }
  }

  void attribute_block(BlockNo address) {
    Block bytes = block(address);
    EaWalker walker(bytes, address, info_.fs_format);
    while (auto record = must(walker.next())) {
      if (record->type == EaType::unused) continue;
      ++attribute_records;
      CHECK((record->is_inline() ? record->value.size() == record->value_bytes : record->value.empty()));
      for (be64 pointer : record->pointers)
        must(check_meta_header(block(BlockNo(pointer)), BlockNo(pointer), MetaType::ea_data));
    }
  }

  /// Everything below a directory.
  void walk(BlockNo directory) {
    Block inode = dinode(directory);
    attributes(inode);
    for (const auto& [name, address] : entries(inode)) {
      if (name == "." || name == "..") continue;
      Block child = block(address);
      if (S_ISDIR(view<Dinode>(child).mode)) {
        walk(address);
        continue;
      }
      child = dinode(address);
      attributes(child);
      data_blocks(child);
    }
  }

  std::uint64_t dinodes = 0;
  std::uint64_t leaves = 0;
  std::uint64_t attribute_records = 0;

 private:
  const test::GoldenImage& image_;
  SuperblockInfo info_;
};

void check_resource_groups(Reader& reader, const Block& rindex_file) {
  REQUIRE(rindex_file.size() % sizeof(ResourceGroupIndexEntry) == 0);
  REQUIRE(!rindex_file.empty());
  for (std::size_t at = 0, index = 0; at < rindex_file.size(); at += sizeof(ResourceGroupIndexEntry), ++index) {
    const auto& entry = view<ResourceGroupIndexEntry>(rindex_file, at);
    must(check_rindex_entry(entry, index, reader.geometry(), reader.volume_blocks()));
    Block head = reader.block(BlockNo(entry.addr));
    must(check_rgrp(head, entry));
    CHECK(view<ResourceGroup>(head).crc != 0);
    for (std::uint32_t i = 1; i < entry.length; ++i)
      must(check_meta_header(reader.block(BlockNo(entry.addr + i)), BlockNo(entry.addr + i),
                             MetaType::resource_group_bitmap));
  }
}

void check_journal(Reader& reader, BlockNo address) {
  Block inode = reader.dinode(address);
  std::uint64_t blocks = view<Dinode>(inode).size >> reader.geometry().block_shift();
  std::uint64_t headers = 0;
  for (auto [place, data] : reader.data_blocks(inode)) {
    Block bytes = reader.block(data);
    if (has_meta_type(bytes, MetaType::log_header)) {
      ++headers;
      must(check_log_header(bytes, FileBlock(place)));
      must(check_log_tail(view<LogHeader>(bytes), blocks));
      CHECK(view<LogHeader>(bytes).crc != 0);
    } else if (has_meta_type(bytes, MetaType::log_descriptor)) {
      must(check_log_descriptor(bytes, FileBlock(place), blocks));
    }
  }
  CHECK(headers > 0);
}

void check_volume(const std::string& name, std::uint32_t block_size, const std::string& lock_table,
                  std::size_t journals) {
  auto image = test::GoldenImage::unpack(name);
  if (!image) return;
  Reader reader(*image);
  CHECK(reader.geometry().block_size() == block_size);
  CHECK(reader.info().fs_format == 1802);
  CHECK(reader.info().lock_protocol == "lock_dlm");
  CHECK(reader.info().lock_table == lock_table);

  auto master = reader.entries(reader.dinode(BlockNo(reader.info().master_dir.addr)));
  check_resource_groups(reader, reader.contents(reader.dinode(master.at("rindex"))));
  auto jindex = reader.entries(reader.dinode(master.at("jindex")));
  CHECK(jindex.size() == journals + 2);
  for (const auto& [journal, address] : jindex) {
    if (journal.starts_with("journal")) check_journal(reader, address);
  }
  auto per_node = reader.entries(reader.dinode(master.at("per_node")));
  CHECK(per_node.size() == 3 * journals + 2);
  for (const auto& [file, address] : per_node) {
    if (!file.starts_with("quota_change")) continue;
    Block inode = reader.dinode(address);
    for (auto [place, data] : reader.data_blocks(inode))
      must(quota_changes(reader.block(data), data));
  }
  reader.walk(BlockNo(reader.info().root_dir.addr));
  CHECK(reader.dinodes > 1000);
  CHECK(reader.leaves > 100);
  CHECK(reader.attribute_records > 50);
}

}  // namespace

TEST_CASE("a kernel-made volume of 4 KiB blocks passes every check", "[golden]") {
  check_volume("basic-4k/volume.img", 4096, "my-cluster:storage", 5);
}

TEST_CASE("a kernel-made volume of 1 KiB blocks passes every check", "[golden]") {
  check_volume("basic-1k/volume.img", 1024, "my-cluster:small1k", 2);
}

TEST_CASE("journals that a power cut left dirty pass every check", "[golden]") {
  for (const char* name : {"dirty-journal-revoke/dirty.img", "dirty-journal-jdata/dirty.img"}) {
    auto image = test::GoldenImage::unpack(name);
    if (!image) return;
    Reader reader(*image);
    auto master = reader.entries(reader.dinode(BlockNo(reader.info().master_dir.addr)));
    for (const auto& [journal, address] : reader.entries(reader.dinode(master.at("jindex")))) {
      if (journal.starts_with("journal")) check_journal(reader, address);
    }
  }
}
