#include "offline/journals.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

namespace corral {

using namespace ondisk;

namespace {

constexpr std::uint64_t kSmallestJournalBytes = 8 << 20;
constexpr std::uint64_t kLargestJournalBytes = 1 << 30;

struct NamedFiles {
  std::vector<OfflineDirent> journals;  ///< of jindex
  std::vector<OfflineDirent> locals;    ///< of per_node
};

/// ENOENT where there is no such name.
Result<BlockNo> find_name(const std::vector<OfflineDirent>& entries, std::string_view name) {
  auto entry = std::ranges::find(entries, name, &OfflineDirent::name);
  if (entry == entries.end()) return fail(ENOENT);
  return entry->inode;
}

Task<Result<NamedFiles>> list_files(const VolumeReader& volume) {
  NamedFiles files;
  CO_TRY(OfflineInode jindex, co_await volume.system_file("jindex"));
  CO_TRY(files.journals, co_await volume.list(jindex));
  std::erase_if(files.journals, [](const OfflineDirent& entry) { return !entry.name.starts_with("journal"); });
  CO_TRY(OfflineInode per_node, co_await volume.system_file("per_node"));
  CO_TRY(files.locals, co_await volume.list(per_node));
  co_return files;
}

}  // namespace

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

Task<Result<std::vector<OfflineJournal>>> find_journals(const VolumeReader& volume) {
  CO_TRY(const NamedFiles files, co_await list_files(volume));
  std::vector<OfflineJournal> journals;
  for (std::uint32_t id = 0; id < files.journals.size(); ++id) {
    const std::string name = fmt::format("journal{}", id);
    Result<BlockNo> number = find_name(files.journals, name);
    if (!number) co_return fail_corrupt("jindex directory: no {} among {} journals", name, files.journals.size());
    Result<BlockNo> statfs = find_name(files.locals, fmt::format("statfs_change{}", id));
    if (!statfs) co_return fail_corrupt("per_node directory: no statfs_change{}", id);
    CO_TRY(OfflineInode inode, co_await volume.read_inode(*number));
    Result<JournalMap> map = co_await map_journal(volume, inode);
    if (!map) co_return std::unexpected(map.error().within(name));
    journals.push_back({JournalId(id), inode.number(), *std::move(map), *statfs});
  }
  co_return journals;
}

Task<Result<std::vector<OfflineJournal>>> find_sound_journals(const VolumeReader& volume, bool& all) {
  std::vector<OfflineJournal> journals;
  auto files = co_await list_files(volume);
  all = files.has_value();
  if (!files && files.error().kind() == ErrorKind::device) co_return std::unexpected(files.error());
  for (std::uint32_t id = 0; files && id < files->journals.size(); ++id) {
    const Result<BlockNo> number = find_name(files->journals, fmt::format("journal{}", id));
    Result<OfflineInode> inode = fail(ENOENT);
    if (number) inode = co_await volume.read_inode(*number);
    Result<JournalMap> map = fail(ENOENT);
    if (inode) map = co_await map_journal(volume, *inode);
    if (map) {
      const Result<BlockNo> statfs = find_name(files->locals, fmt::format("statfs_change{}", id));
      journals.push_back({JournalId(id), *number, *std::move(map), statfs.value_or(BlockNo(0))});
      continue;
    }
    const Error& error = inode ? map.error() : inode.error();
    if (error.kind() == ErrorKind::device) co_return std::unexpected(error);
    all = false;
  }
  co_return journals;
}

std::vector<JournalMap> maps_of(const std::vector<OfflineJournal>& journals) {
  std::vector<JournalMap> maps;
  for (const OfflineJournal& journal : journals)
    maps.push_back(journal.map);
  return maps;
}

namespace {

struct ReplayOfAll {
  Executor& executor;
  const VolumeReader& volume;
  const OfflineReplayOptions& options;
  Logger& log;
  const std::vector<OfflineJournal>& journals;
  const std::vector<JournalMap>& maps;
  std::map<JournalId, ReplayReport> reports = {};
  bool in_use = false;  ///< the journal to be used was put in use

  Task<Result<>> replay(const OfflineJournal& journal, JournalUse afterwards);
  Task<Result<>> put_in_use();
};

Task<Result<>> ReplayOfAll::replay(const OfflineJournal& journal, JournalUse afterwards) {
  ReplayJob job{.journal = {executor, volume.device(), volume.geometry(), journal.map},
                .id = journal.id,
                .inode = journal.inode,
                .volume_blocks = volume.volume_blocks(),
                .journals = maps,
                .local_statfs = journal.local_statfs,
                .dry_run = options.dry_run,
                .afterwards = afterwards,
                .log = log};
  if (options.in_use && journal.id != *options.in_use) job.before_writing = [this] { return put_in_use(); };
  CO_TRY(ReplayReport report, co_await replay_journal(std::move(job)));
  const bool frozen = report.head.frozen();
  // One that is put in use may have been looked at before, when nothing was known to be dirty.
  reports.insert_or_assign(journal.id, std::move(report));
  // Whoever was to look for what it had left to clear away is gone.
  if (options.in_use && !options.only && frozen) co_return co_await put_in_use();
  co_return Result<>{};
}

/// Another journal is about to become clean, or was left frozen.
Task<Result<>> ReplayOfAll::put_in_use() {
  const auto own = std::ranges::find(journals, *options.in_use, &OfflineJournal::id);
  const auto looked_at = reports.find(*options.in_use);
  const bool was_dirty = looked_at != reports.end() && !looked_at->second.head.clean();
  if (std::exchange(in_use, true) || was_dirty || own == journals.end()) co_return Result<>{};
  co_return co_await replay(*own, JournalUse::always);
}

}  // namespace

Task<Result<std::vector<OfflineReplay>>> replay_offline(Executor& executor, const VolumeReader& volume,
                                                        OfflineReplayOptions options, Logger log) {
  CO_TRY(std::vector<OfflineJournal> journals, co_await find_journals(volume));
  if (options.only && options.only->value >= journals.size())
    co_return fail(ENOENT, "no journal {}: the volume has {}, numbered from 0", options.only->value, journals.size());
  const std::vector<JournalMap> maps = maps_of(journals);
  ReplayOfAll all{executor, volume, options, log, journals, maps};
  for (const OfflineJournal& journal : journals) {
    if ((options.only && journal.id != *options.only) || all.reports.contains(journal.id)) continue;
    CO_TRY_VOID(co_await all.replay(journal, journal.id == options.in_use ? JournalUse::if_dirty : JournalUse::none));
  }
  std::vector<OfflineReplay> replays;
  for (OfflineJournal& journal : journals) {
    if (const auto report = all.reports.find(journal.id); report != all.reports.end())
      replays.push_back({std::move(journal), std::move(report->second)});
  }
  co_return replays;
}

}  // namespace corral
