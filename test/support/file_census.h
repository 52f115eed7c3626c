/// What a sound volume holds: every inode with its contents and all the blocks it stands on, to tell after damage and
/// repair whether somebody lost what was not hit.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <sys/stat.h>

#include "fsck/check.h"
#include "fsck/group_pass.h"
#include "fsck/inode_pass.h"
#include "fsck/inode_walk.h"
#include "fsck/superblock_pass.h"
#include "fsck/walk_policies.h"
#include "offline/volume_reader.h"
#include "test/support/simulated_volume.h"

namespace corral::test {

struct CensusEntry {
  std::set<std::uint64_t> blocks;   ///< the dinode and everything below it
  std::vector<std::byte> contents;  ///< of files and symlinks
  std::uint32_t mode = 0;
};
using Census = std::map<BlockNo, CensusEntry>;

constexpr std::uint64_t kCensusContentsLimit = 4 << 20;

class NoteBlocks final : public fsck::FollowBlocks {
 public:
  NoteBlocks(fsck::Volume& volume, std::set<std::uint64_t>& blocks) : FollowBlocks(volume), blocks_(blocks) {}
  fsck::Ruling rule(const fsck::Pointer& pointer) override {
    blocks_.insert(pointer.block.value);
    return FollowBlocks::rule(pointer);
  }

 private:
  std::set<std::uint64_t>& blocks_;
};

inline Task<Result<Census>> take_census(Executor& executor, Device& device) {
  Census census;
  fsck::WorkingCopy disk(executor, device);
  fsck::Findings findings([](const fsck::Finding&) { return fsck::Outcome::told; });
  CO_TRY(const ondisk::Superblock superblock, co_await fsck::check_superblock(disk, findings));
  fsck::Volume volume(disk, findings, [](auto, auto, auto) {}, superblock);
  CO_TRY_VOID(co_await fsck::load_groups(volume));
  CO_TRY_VOID(co_await fsck::check_inodes(volume));
  CO_TRY(VolumeReader reader, co_await VolumeReader::open(disk));
  for (const fsck::InodeRecord& record : volume.inodes.inodes()) {
    if (record.is(fsck::InodeRecord::kSystem) || record.is(fsck::InodeRecord::kUnlinked)) continue;
    CensusEntry& entry = census[record.number()];
    CO_TRY(OfflineInode inode, co_await reader.read_inode(record.number()));
    entry.mode = inode.dinode().mode;
    entry.blocks.insert(record.address);
    CO_TRY(fsck::BlockBytes block, co_await volume.read(record.number()));
    NoteBlocks note(volume, entry.blocks);
    fsck::InodeWalk walk(volume, record.number(), block, note);
    CO_TRY_VOID(co_await walk.run());
    if (inode.is_directory() || inode.size_bytes() > kCensusContentsLimit) continue;
    CO_TRY(entry.contents, co_await reader.read_contents(inode, kCensusContentsLimit));
  }
  co_await disk.close();
  co_return census;
}

/// The first inode that lost something although none of its blocks was hit; empty: none did. Directories count as long
/// as they are there: their names may have moved.
inline Task<Result<std::string>> find_loss(Device& device, const Census& before, std::set<std::uint64_t> hit) {
  CO_TRY(VolumeReader reader, co_await VolumeReader::open(device));
  for (const auto& [number, entry] : before) {
    bool damaged = false;
    for (std::uint64_t block : hit)
      damaged |= entry.blocks.contains(block);
    if (damaged) continue;
    auto inode = co_await reader.read_inode(number);
    if (!inode) co_return fmt::format("inode {} is lost: {}", number.value, inode.error().describe());
    if (inode->dinode().mode != entry.mode) co_return fmt::format("inode {} has another mode", number.value);
    if (S_ISDIR(entry.mode) || entry.contents.empty()) continue;
    auto contents = co_await reader.read_contents(*inode, kCensusContentsLimit);
    if (!contents) co_return fmt::format("inode {} cannot be read: {}", number.value, contents.error().describe());
    if (*contents != entry.contents) co_return fmt::format("inode {} has other contents", number.value);
  }
  co_return std::string();
}

/// A run of the checker over an image.
struct CheckedImage {
  fsck::CheckReport report;
  std::vector<fsck::Finding> findings;
  Result<> outcome;
};

/// Checks the bench's volume; `write` repairs everything.
inline CheckedImage check_image(SimulatedVolume& bench, bool write) {
  CheckedImage checked;
  fsck::Findings findings([&](const fsck::Finding& finding) {
    checked.findings.push_back(finding);
    return write ? fsck::Outcome::repaired : fsck::Outcome::told;
  });
  fsck::CheckOptions options;
  options.write = write;
  auto report = bench.run(fsck::check_volume(bench.executor, bench.device, findings, options, Logger(bench.log)));
  if (report)
    checked.report = *report;
  else
    checked.outcome = std::unexpected(report.error());
  return checked;
}

inline std::string words_of(const CheckedImage& checked) {
  std::string words = checked.outcome ? std::string() : "error: " + checked.outcome.error().describe() + "\n";
  for (const fsck::Finding& finding : checked.findings)
    words += fmt::format("{} ({})\n", finding.problem, finding.repair);
  return words;
}

}  // namespace corral::test
