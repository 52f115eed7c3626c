#include "tools/mkfs/volume_image.h"

#include <map>
#include <set>

#include <sys/stat.h>

#include "ondisk/checksum.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/validate.h"
#include "test/support/catch.h"
#include "test/support/must.h"

using namespace corral;
using namespace corral::mkfs;
using namespace corral::ondisk;
using corral::test::must;

namespace {

FormatOptions options_of(std::uint32_t block_size, std::uint32_t journals) {
  FormatOptions options;
  options.block_size = block_size;
  options.journals = journals;
  options.journal_mebibytes = 8;
  options.lock_table = "my-cluster:storage";
  options.uuid[0] = 0xAB;
  options.now = {.seconds = 1'700'000'000, .nanoseconds = 5};
  return options;
}

DeviceGeometry device_of(std::uint64_t bytes) {
  return {.size_bytes = bytes};
}

constexpr std::uint64_t kGibibyte = std::uint64_t{1} << 30;

BlockBytes block_at(const VolumeImage& image, BlockNo address) {
  BlockBytes block(image.geometry().block_size());
  image.fill(address, block);
  return block;
}

std::map<std::string, InodeIdentity> names_in_stuffed(const BlockBytes& block, BlockNo address) {
  std::map<std::string, InodeIdentity> names;
  DirentWalker walker(block, address);
  while (const Dirent* dirent = must(walker.next()))
    names.emplace(name_of(*dirent), dirent->inum);
  return names;
}

/// States of a group's data blocks, from its bitmap.
std::vector<BlockState> states_of(const VolumeImage& image, const PlacedGroup& group) {
  std::vector<BlockState> states;
  for (std::uint32_t i = 0; i < group.shape.length; ++i) {
    const BlockBytes block = block_at(image, group.addr + i);
    for (std::size_t at = i == 0 ? sizeof(ResourceGroup) : sizeof(MetaHeader); at < block.size(); ++at) {
      for (int shift = 0; shift < 8 && states.size() < group.shape.data; shift += 2)
        states.push_back(static_cast<BlockState>(std::to_integer<unsigned>(block[at] >> shift) & 3));
    }
  }
  return states;
}

ResourceGroupIndexEntry entry_of(const PlacedGroup& group) {
  ResourceGroupIndexEntry entry{};
  entry.addr = group.addr.value;
  entry.length = group.shape.length;
  entry.data0 = group.data0().value;
  entry.data = group.shape.data;
  entry.bitmap_bytes = group.shape.data / 4;
  return entry;
}

/// Every written block has the type that its place and the bitmap say, and every dinode is sound.
void check_blocks(const VolumeImage& image) {
  const Placement& placement = image.placement();
  std::uint64_t written = 0;
  BlockNo before{};
  for (const WrittenRange& range : image.written_ranges()) {
    CHECK(range.start > before);
    before = range.start + range.blocks;
    written += range.blocks;
  }
  CHECK(before.value <= placement.volume_blocks);
  std::uint64_t expected = 0;
  std::uint64_t index = 0;
  for (const PlacedGroup& group : placement.groups) {
    const auto entry = entry_of(group);
    must(check_rindex_entry(entry, index++, image.geometry(), placement.volume_blocks));
    const BlockBytes head = block_at(image, group.addr);
    must(check_rgrp(head, entry));
    CHECK(view<ResourceGroup>(head).crc != 0);
    for (std::uint32_t i = 1; i < group.shape.length; ++i)
      must(check_meta_header(block_at(image, group.addr + i), group.addr + i, MetaType::resource_group_bitmap));
    const auto states = states_of(image, group);
    REQUIRE(states.size() == group.shape.data);
    std::uint64_t dinodes = 0;
    for (std::uint64_t i = 0; i < states.size(); ++i) {
      REQUIRE((states[i] == BlockState::free) == (i >= group.used));
      if (states[i] != BlockState::dinode) continue;
      ++dinodes;
      must(check_dinode(block_at(image, group.data0() + i), group.data0() + i, image.geometry()));
    }
    CHECK(dinodes == view<ResourceGroup>(head).dinodes);
    CHECK(view<ResourceGroup>(head).free == group.shape.data - group.used);
    expected += group.shape.length + group.used;
  }
  CHECK(written == expected);
}

}  // namespace

TEST_CASE("every block of a new volume is what its place says") {
  for (std::uint32_t block_size : {512u, 1024u, 2048u, 4096u}) {
    for (std::uint32_t journals : {1u, 3u}) {
      check_blocks(must(VolumeImage::plan(options_of(block_size, journals), device_of(kGibibyte / 4))));
    }
  }
}

TEST_CASE("the superblock leads to master and root directory") {
  const auto image = must(VolumeImage::plan(options_of(4096, 2), device_of(kGibibyte)));
  BlockBytes block(4096);
  image.fill_superblock(block);
  const auto info = must(parse_superblock(block, kGibibyte));
  CHECK(info.fs_format == 1802);
  CHECK(info.lock_protocol == "lock_corral");
  CHECK(info.lock_table == "my-cluster:storage");
  CHECK(info.uuid[0] == 0xAB);

  const BlockNo root(info.root_dir.addr);
  const BlockBytes root_block = block_at(image, root);
  const auto& root_dinode = view<Dinode>(root_block);
  CHECK(root_dinode.mode == (S_IFDIR | 0755));
  CHECK(root_dinode.nlink == 2);
  CHECK(root_dinode.mtime == 1'700'000'000);
  CHECK(root_dinode.mtime_nanoseconds == 5);
  CHECK(names_in_stuffed(root_block, root).at("..").addr == root.value);

  const BlockNo master(info.master_dir.addr);
  const BlockBytes master_block = block_at(image, master);
  CHECK(view<Dinode>(master_block).nlink == 4);
  CHECK((view<Dinode>(master_block).flags & kDinodeSystem) != 0);
  const auto names = names_in_stuffed(master_block, master);
  for (const char* name : {"jindex", "per_node", "inum", "statfs", "rindex", "quota"}) {
    const InodeIdentity inode = names.at(name);
    const BlockBytes child = block_at(image, BlockNo(inode.addr));
    CHECK(view<Dinode>(child).num.formal_ino == inode.formal_ino);
    CHECK((view<Dinode>(child).flags & kDinodeSystem) != 0);
  }
  const BlockNo jindex(names.at("jindex").addr);
  const auto journals = names_in_stuffed(block_at(image, jindex), jindex);
  CHECK(journals.size() == 4);
  CHECK(journals.at("journal1").addr == image.placement().nodes[1].journal.dinode().value);
  const BlockNo per_node(names.at("per_node").addr);
  const auto node_files = names_in_stuffed(block_at(image, per_node), per_node);
  CHECK(node_files.size() == 8);
  CHECK(node_files.at("quota_change0").addr == image.placement().nodes[0].quota_change.dinode().value);
  CHECK(node_files.at("..").addr == master.value);
}

TEST_CASE("counters of a new volume agree with its groups") {
  const auto image = must(VolumeImage::plan(options_of(4096, 2), device_of(kGibibyte)));
  std::uint64_t data = 0;
  std::uint64_t free = 0;
  std::set<std::uint64_t> formal;
  std::uint64_t dinodes = 0;
  for (const PlacedGroup& group : image.placement().groups) {
    data += group.shape.data;
    free += group.free();
    for (BlockNo dinode : group.dinodes) {
      ++dinodes;
      formal.insert(view<Dinode>(block_at(image, dinode)).num.formal_ino);
    }
  }
  CHECK(formal.size() == dinodes);
  const SystemFiles& files = image.placement().system;
  const BlockBytes statfs = block_at(image, files.statfs);
  CHECK(view<StatfsChange>(statfs, sizeof(Dinode)).total == data);
  CHECK(view<StatfsChange>(statfs, sizeof(Dinode)).free == free);
  CHECK(view<StatfsChange>(statfs, sizeof(Dinode)).dinodes == dinodes);
  CHECK(view<be64>(block_at(image, files.inum), sizeof(Dinode)) == *formal.rbegin() + 1);
  const BlockBytes quota = block_at(image, files.quota);
  CHECK(view<Dinode>(quota).size == 2 * sizeof(Quota));
  CHECK(view<Quota>(quota, sizeof(Dinode)).value == 1);
}

TEST_CASE("a new journal is full of headers, the last one its clean head") {
  const auto image = must(VolumeImage::plan(options_of(1024, 1), device_of(kGibibyte / 16)));
  const NodeFiles& files = image.placement().nodes[0];
  REQUIRE(files.journal.data_blocks() == 8192);
  for (std::uint64_t place : {0u, 1u, 4000u, 8191u}) {
    const BlockNo address = files.journal.first_data() + place;
    const BlockBytes block = block_at(image, address);
    must(check_log_header(block, FileBlock(place)));
    const auto& header = view<LogHeader>(block);
    must(check_log_tail(header, 8192));
    CHECK(header.sequence == place);
    CHECK((header.flags & kLogHeadUnmount) != 0);
    CHECK(header.addr == address.value);
    CHECK(header.journal_inode == files.journal.dinode().value);
  }
  const BlockBytes dinode = block_at(image, files.journal.dinode());
  CHECK(view<Dinode>(dinode).size == 8u << 20);
  CHECK(view<Dinode>(dinode).blocks == files.journal.blocks());
  const BlockBytes change = block_at(image, files.quota_change.first_data());
  for (const QuotaChange& record : must(quota_changes(change, files.quota_change.first_data())))
    CHECK(record.change == 0);
}

TEST_CASE("the rindex of many groups lists them all across its blocks") {
  FormatOptions options = options_of(512, 1);
  options.resource_group_mebibytes = 32;
  const auto image = must(VolumeImage::plan(options, device_of(16 * kGibibyte)));
  const auto& groups = image.placement().groups;
  CHECK(groups.size() == 513);
  const FileTree tree(image.geometry(), image.placement().system.rindex, image.placement().system.rindex_data_blocks);
  const BlockBytes dinode = block_at(image, tree.dinode());
  CHECK(view<Dinode>(dinode).payload_format == kFormatResourceIndex);
  CHECK(view<Dinode>(dinode).size == groups.size() * 96);
  BlockBytes contents;
  for (std::uint64_t i = 0; i < tree.data_blocks(); ++i) {
    const BlockBytes block = block_at(image, tree.first_data() + i);
    contents.insert(contents.end(), block.begin(), block.end());
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto& entry = view<ResourceGroupIndexEntry>(contents, i * 96);
    REQUIRE(entry.addr == groups[i].addr.value);
    REQUIRE(entry.data == groups[i].shape.data);
    REQUIRE(groups[i].skip == (i + 1 < groups.size() ? groups[i + 1].addr - groups[i].addr : 0));
  }
}
