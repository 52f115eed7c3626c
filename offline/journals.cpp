#include "offline/journals.h"

#include <algorithm>

#include <fmt/format.h>

namespace corral {

using namespace ondisk;

namespace {

constexpr std::uint64_t kSmallestJournalBytes = 8 << 20;
constexpr std::uint64_t kLargestJournalBytes = 1 << 30;

Task<Result<JournalMap>> map_journal(const VolumeReader& volume, const OfflineInode& inode) {
  const std::uint64_t size = inode.size_bytes();
  if (size < kSmallestJournalBytes || size > kLargestJournalBytes || size % volume.geometry().block_size() != 0)
    co_return fail_corrupt("inode {}: {} bytes long, expected a journal of {} to {} bytes in whole blocks",
                           inode.number().value, size, kSmallestJournalBytes, kLargestJournalBytes);
  const std::uint64_t blocks = size >> volume.geometry().block_shift();
  CO_TRY(std::vector<FileExtent> extents, co_await volume.map(inode, FileBlock(blocks)));
  JournalMap map;
  for (const FileExtent& extent : extents) {
    if (extent.first.value != map.size_blocks()) break;
    map.append(extent.start, static_cast<std::uint32_t>(extent.length));
  }
  if (map.size_blocks() != blocks)
    co_return fail_corrupt("inode {}: journal with a hole at its block {}", inode.number().value, map.size_blocks());
  co_return map;
}

}  // namespace

Task<Result<std::vector<OfflineJournal>>> find_journals(const VolumeReader& volume) {
  CO_TRY(OfflineInode jindex, co_await volume.system_file("jindex"));
  CO_TRY(std::vector<OfflineDirent> files, co_await volume.list(jindex));
  std::erase_if(files, [](const OfflineDirent& entry) { return !entry.name.starts_with("journal"); });
  CO_TRY(OfflineInode per_node, co_await volume.system_file("per_node"));
  CO_TRY(std::vector<OfflineDirent> local_files, co_await volume.list(per_node));

  std::vector<OfflineJournal> journals;
  for (std::uint32_t id = 0; id < files.size(); ++id) {
    auto named = [](const std::string& name) {
      return [name](const OfflineDirent& entry) { return entry.name == name; };
    };
    auto entry = std::find_if(files.begin(), files.end(), named(fmt::format("journal{}", id)));
    if (entry == files.end())
      co_return fail_corrupt("jindex directory: no journal{} among {} journals", id, files.size());
    auto statfs = std::find_if(local_files.begin(), local_files.end(), named(fmt::format("statfs_change{}", id)));
    if (statfs == local_files.end()) co_return fail_corrupt("per_node directory: no statfs_change{}", id);
    CO_TRY(OfflineInode inode, co_await volume.read_inode(entry->inode));
    Result<JournalMap> map = co_await map_journal(volume, inode);
    if (!map) co_return std::unexpected(map.error().within(entry->name));
    journals.push_back({JournalId(id), inode.number(), *std::move(map), statfs->inode});
  }
  co_return journals;
}

std::vector<JournalMap> maps_of(const std::vector<OfflineJournal>& journals) {
  std::vector<JournalMap> maps;
  for (const OfflineJournal& journal : journals)
    maps.push_back(journal.map);
  return maps;
}

Task<Result<std::vector<OfflineReplay>>> replay_offline(Executor& executor, const VolumeReader& volume,
                                                        OfflineReplayOptions options, Logger log) {
  CO_TRY(std::vector<OfflineJournal> journals, co_await find_journals(volume));
  if (options.only && options.only->value >= journals.size())
    co_return fail(ENOENT, "no journal {}: the volume has {}, numbered from 0", options.only->value, journals.size());
  CO_TRY(OfflineInode statfs, co_await volume.system_file("statfs"));
  const std::vector<JournalMap> maps = maps_of(journals);
  std::vector<OfflineReplay> replays;
  for (OfflineJournal& journal : journals) {
    if (options.only && journal.id != *options.only) continue;
    ReplayJob job{.journal = {executor, volume.device(), volume.geometry(), journal.map},
                  .id = journal.id,
                  .inode = journal.inode,
                  .volume_blocks = volume.volume_blocks(),
                  .journals = maps,
                  .statfs = {.master = statfs.number(), .local = journal.local_statfs},
                  .dry_run = options.dry_run,
                  .log = log};
    CO_TRY(ReplayReport report, co_await replay_journal(std::move(job)));
    replays.push_back({std::move(journal), std::move(report)});
  }
  co_return replays;
}

}  // namespace corral
