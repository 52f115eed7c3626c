// The offline reader shows what the kernel showed, and meets damage with an error.
#include "offline/volume_reader.h"

#include <cstdio>
#include <set>

#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "offline/journals.h"
#include "test/support/catch.h"
#include "test/support/golden_disk.h"
#include "test/support/must.h"
#include "test/support/sha256.h"
#include "test/support/simulated_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

constexpr std::uint64_t kContentsLimit = 8 << 20;

std::vector<nlohmann::json> manifest(const std::string& name) {
  std::vector<nlohmann::json> lines;
  const std::string command = fmt::format("xz -dc '{}'", (*golden_folder() / name).string());
  std::FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  char buffer[65536];
  for (std::size_t count = 0; (count = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;)
    text.append(buffer, count);
  ::pclose(pipe);
  for (std::size_t begin = 0, end = 0; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
    nlohmann::json line = nlohmann::json::parse(text.substr(begin, end - begin), nullptr, false);
    if (!line.is_discarded() && line.contains("path")) lines.push_back(std::move(line));
  }
  return lines;
}

void check_directory(SimulatedVolume& bench, const VolumeReader& volume, const OfflineInode& inode,
                     const nlohmann::json& line) {
  const std::vector<OfflineDirent> entries = must(bench.run(volume.list(inode)));
  CHECK(entries.size() == line.at("entries"));
  std::set<std::string> names;
  for (const OfflineDirent& entry : entries) {
    names.insert(entry.name);
    if (entry.name == ".") CHECK(entry.inode == inode.number());
  }
  CHECK(names.size() == entries.size());
  if (!line.contains("dirents")) return;
  for (const nlohmann::json& dirent : line.at("dirents")) {
    const std::uint64_t target = dirent.at(2);
    CHECK(std::ranges::count(entries, BlockNo(target), &OfflineDirent::inode) >= 1);
  }
}

Task<Result<std::vector<FileExtent>>> map_inode(Device& device, BlockNo number) {
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  CO_TRY(OfflineInode inode, co_await volume.read_inode(number));
  co_return co_await volume.map(inode, FileBlock(std::uint64_t{1} << 40));
}

}  // namespace

TEST_CASE("every inode of a golden volume reads as the kernel read it", "[golden]") {
  for (const std::string name : {"basic-1k", "basic-4k"}) {
    auto image = golden_disk(name + "/volume.img");
    if (!image) return;
    SimulatedVolume bench(*image);
    const VolumeReader volume = must(bench.run(VolumeReader::open(bench.device)));
    std::size_t hashed = 0;
    for (const nlohmann::json& line : manifest(name + "/manifest.jsonl.xz")) {
      const OfflineInode inode = must(bench.run(volume.read_inode(BlockNo(line.at("ino").get<std::uint64_t>()))));
      INFO(name << " inode " << inode.number().value);
      CHECK(fmt::format("{:06o}", inode.dinode().mode.value()) == line.at("mode").get<std::string>());
      CHECK(inode.is_directory() == (line.at("type") == "dir"));
      if (inode.is_directory()) {
        check_directory(bench, volume, inode, line);
        continue;
      }
      CHECK(inode.size_bytes() == line.at("size"));
      if (!line.contains("sha256") || inode.size_bytes() > kContentsLimit) continue;
      CHECK(sha256(must(bench.run(volume.read_contents(inode, kContentsLimit)))) ==
            line.at("sha256").get<std::string>());
      ++hashed;
    }
    CHECK(hashed > 100);
  }
}

TEST_CASE("names lead to inodes", "[golden]") {
  auto image = golden_disk("basic-4k/volume.img");
  if (!image) return;
  SimulatedVolume bench(*image);
  const VolumeReader volume = must(bench.run(VolumeReader::open(bench.device)));
  CHECK(volume.superblock().lock_table == "my-cluster:storage");
  const OfflineInode root = must(bench.run(volume.read_inode(BlockNo(volume.superblock().root_dir.addr))));
  CHECK(must(bench.run(volume.find(root, "."))).number() == root.number());
  CHECK(bench.run(volume.find(root, "no such name")).error().code() == ENOENT);
  const OfflineInode statfs = must(bench.run(volume.system_file("statfs")));
  CHECK(must(bench.run(volume.read_contents(statfs, 24))).size() == 24);
  CHECK(bench.run(volume.read_contents(statfs, 23)).error().code() == EFBIG);
  CHECK(bench.run(volume.list(statfs)).error().code() == ENOTDIR);
  CHECK(must(bench.run(volume.system_file("per_node/inum_range4"))).size_bytes() == 16);
}

TEST_CASE("the journals of a golden volume are found", "[golden]") {
  auto image = golden_disk("basic-4k/volume.img");
  if (!image) return;
  SimulatedVolume bench(*image);
  const VolumeReader volume = must(bench.run(VolumeReader::open(bench.device)));
  const std::vector<OfflineJournal> journals = must(bench.run(find_journals(volume)));
  REQUIRE(journals.size() == 5);
  for (std::uint32_t id = 0; id < 5; ++id) {
    CHECK(journals[id].id.value == id);
    CHECK(journals[id].map.size_blocks() == 2048);
    CHECK(journals[id].map.extents().size() == 1);
  }
}

TEST_CASE("a tree that leads into itself ends in an error", "[golden]") {
  auto image = golden_disk("basic-4k/volume.img");
  if (!image) return;
  SimulatedVolume bench(*image);
  const VolumeReader volume = must(bench.run(VolumeReader::open(bench.device)));
  const std::vector<OfflineJournal> journals = must(bench.run(find_journals(volume)));
  const BlockNo journal = journals[1].inode;
  const OfflineInode inode = must(bench.run(volume.read_inode(journal)));
  REQUIRE(inode.dinode().height == 2);
  AlignedBuffer block(4096);
  std::memcpy(block.data(), inode.block().data(), 4096);
  auto& dinode = ondisk::view<ondisk::Dinode>(block.span());
  dinode.height = 4;
  auto pointers = ondisk::pointers(block.span(), sizeof(ondisk::Dinode));
  const ondisk::be64 indirect = pointers[0];
  for (ondisk::be64& pointer : pointers)
    pointer = indirect;
  DiskImage changed = *image;
  changed.write(journal.value * 4096, block.span());
  std::vector<std::byte> loop(4096);
  changed.read(indirect.value() * 4096, loop);
  for (ondisk::be64& pointer : ondisk::pointers(std::span(loop), sizeof(ondisk::MetaHeader)))
    pointer = indirect;
  changed.write(indirect.value() * 4096, loop);

  SimulatedVolume damaged(std::move(changed));
  auto extents = damaged.run(map_inode(damaged.device, journal));
  REQUIRE_FALSE(extents);
  CHECK(extents.error().kind() == ErrorKind::corrupt);
  CHECK(extents.error().message().find("more blocks than the volume") != std::string::npos);
}

TEST_CASE("what is no volume is refused") {
  SimulatedVolume tiny(DiskImage(4096));
  CHECK(tiny.run(VolumeReader::open(tiny.device)).error().code() == EINVAL);
  SimulatedVolume empty(DiskImage(1 << 20));
  auto refused = empty.run(VolumeReader::open(empty.device));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == EINVAL);
  CHECK(refused.error().message().starts_with("simulated: not a GFS2 volume"));
}
