#include "tools/image/metadata_selection.h"

#include <sys/stat.h>

#include "fsck/group_pass.h"
#include "fsck/inode_pass.h"
#include "fsck/journal_pass.h"
#include "fsck/superblock_pass.h"
#include "fsck/walk_policies.h"
#include "offline/journals.h"
#include "tools/image/metadata_filter.h"

namespace corral::image {

using namespace ondisk;
using fsck::BlockBytes;
using fsck::PointerKind;

namespace {

constexpr std::uint64_t kLeastJournalBytes = 8 << 20;

/// Notes where a file's contents lie.
class NoteContents final : public fsck::FollowBlocks {
 public:
  NoteContents(fsck::Volume& volume, Selection& selection) : FollowBlocks(volume), selection_(selection) {}
  fsck::Ruling rule(const fsck::Pointer& pointer) override {
    const fsck::Ruling ruling = FollowBlocks::rule(pointer);
    if (ruling.verdict == fsck::Ruling::Verdict::keep && pointer.kind == PointerKind::data)
      selection_.add_whole(pointer.block);
    return ruling;
  }

 private:
  Selection& selection_;
};

/// One look at the volume, in a working copy that holds the repairs which a check would make on its way.
class Look {
 public:
  Look(Executor& executor, fsck::WorkingCopy& disk, fsck::Findings& findings, const SelectionOptions& options,
       Selection& selection)
      : executor_(executor), disk_(disk), findings_(findings), options_(options), selection_(selection) {}

  /// `replay`: as the volume will be. Whether a journal is dirty.
  Task<Result<bool>> run(bool replay);

 private:
  Task<Result<>> take_structures();
  void take_group(const fsck::Group& group);
  Task<Result<>> find_system_files();
  Task<Result<>> take_system_file(BlockNo inode);
  Task<Result<>> take_used(const fsck::Group& group);
  Task<Result<>> take_range(BlockNo first, std::uint64_t count);
  Task<Result<>> look_at_block(BlockNo block);

  Executor& executor_;
  fsck::WorkingCopy& disk_;
  fsck::Findings& findings_;
  const SelectionOptions& options_;
  Selection& selection_;
  std::optional<fsck::Volume> volume_;
  std::set<BlockNo> journals_;  ///< dinodes
  std::set<BlockNo> named_;     ///< system files that were found by their names
};

void Look::take_group(const fsck::Group& group) {
  for (std::uint32_t i = 0; i < group.length; ++i)
    selection_.add_whole(group.addr + i);
  for (std::uint64_t i = 0; i < group.data; ++i) {
    const BlockNo block = group.data0 + i;
    const BlockState state = volume_->map.on_disk(block);
    const fsck::Use use = volume_->map.use(block);
    const bool inode = !group.lost && (state == BlockState::dinode || state == BlockState::unlinked);
    if (inode || use == fsck::Use::metadata || use == fsck::Use::dinode) selection_.blocks.insert(block);
  }
}

/// By their names, for a flag may be damaged, and by their flags, for a name may be.
Task<Result<>> Look::find_system_files() {
  auto reader = co_await VolumeReader::open(disk_);
  for (const std::string folder : {"", "jindex", "per_node"}) {
    Result<OfflineInode> inode = fail(ENOENT);
    if (reader) inode = co_await reader->system_file(folder);
    Result<std::vector<OfflineDirent>> entries = fail(ENOENT);
    if (inode) entries = co_await reader->list(*inode);
    for (const OfflineDirent& entry : entries.value_or(std::vector<OfflineDirent>())) {
      if (entry.name == "." || entry.name == "..") continue;
      named_.insert(entry.inode);
      if (folder == "jindex") journals_.insert(entry.inode);
    }
  }
  selection_.system.insert(named_.begin(), named_.end());
  for (const fsck::InodeRecord& inode : volume_->inodes.inodes())
    if (inode.is(fsck::InodeRecord::kSystem)) selection_.system.insert(BlockNo(inode.address));
  co_return Result<>{};
}

Task<Result<>> Look::take_system_file(BlockNo inode) {
  if (!volume_->map.contains(inode)) co_return Result<>{};
  CO_TRY(BlockBytes block, co_await volume_->read(inode));
  if (!check_dinode(block, inode, volume_->geometry) || !S_ISREG(view<Dinode>(block).mode)) co_return Result<>{};
  // A large system file that has lost its name can only be a journal.
  if (!named_.contains(inode) && view<Dinode>(block).size >= kLeastJournalBytes) journals_.insert(inode);
  NoteContents note(*volume_, selection_);
  fsck::InodeWalk walk(*volume_, inode, block, note);
  CO_TRY_VOID(co_await walk.run());
  if (!journals_.contains(inode)) co_return Result<>{};
  auto reader = co_await VolumeReader::open(disk_);
  Result<OfflineInode> journal = fail(ENOENT);
  if (reader) journal = co_await reader->read_inode(inode);
  Result<std::vector<FileExtent>> extents = fail(ENOENT);
  if (journal) extents = co_await reader->map(*journal, FileBlock(volume_->geometry.blocks_for(journal->size_bytes())));
  for (const FileExtent& extent : extents.value_or(std::vector<FileExtent>()))
    for (std::uint64_t i = 0; i < extent.length; ++i)
      selection_.journals.insert(extent.start + i);
  co_return Result<>{};
}

Task<Result<>> Look::look_at_block(BlockNo block) {
  if (selection_.blocks.contains(block)) co_return Result<>{};
  CO_TRY(const BlockBytes bytes, co_await volume_->read(block));
  if (view<MetaHeader>(bytes).magic == kMagic && looks_like_metadata(bytes)) selection_.blocks.insert(block);
  co_return Result<>{};
}

Task<Result<>> Look::take_used(const fsck::Group& group) {
  for (std::uint64_t i = 0; i < group.data; ++i) {
    const BlockNo block = group.data0 + i;
    if (group.lost || volume_->map.on_disk(block) != BlockState::free) CO_TRY_VOID(co_await look_at_block(block));
  }
  co_return Result<>{};
}

Task<Result<>> Look::take_range(BlockNo first, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    if (options_.progress && i % 1024 == 0) options_.progress("searching", i, count);
    CO_TRY_VOID(co_await look_at_block(first + i));
  }
  co_return Result<>{};
}

Task<Result<>> Look::take_structures() {
  CO_TRY_VOID(co_await check_inodes(*volume_));
  const std::vector<fsck::Group>& groups = volume_->map.groups();
  // A damaged directory may have leaves that nothing refers to any more.
  const bool scan = options_.scan || !volume_->damaged_directories.empty();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (options_.progress) options_.progress(scan ? "searching" : "selecting", i, groups.size());
    take_group(groups[i]);
    if (scan || groups[i].lost) CO_TRY_VOID(co_await take_used(groups[i]));
  }
  CO_TRY_VOID(co_await find_system_files());
  for (const BlockNo inode : selection_.system)
    CO_TRY_VOID(co_await take_system_file(inode));
  selection_.inodes = std::max<std::uint64_t>(selection_.inodes, volume_->inodes.inodes().size());
  co_return Result<>{};
}

Task<Result<bool>> Look::run(bool replay) {
  CO_TRY(selection_.superblock, co_await check_superblock(disk_, findings_));
  NullLogSink nobody;
  bool dirty = false;
  if (replay) {
    CO_TRY(const fsck::JournalOutcome journals,
           co_await replay_journals(executor_, disk_, nullptr, findings_, Logger(nobody)));
    dirty = journals.dirty;
  }
  volume_.emplace(
      disk_, findings_, options_.progress ? options_.progress : [](auto, auto, auto) {}, selection_.superblock);
  const BlockNo superblock = volume_->geometry.superblock();
  for (std::uint64_t block = 0; block <= superblock.value; ++block)
    selection_.add_whole(BlockNo(block));
  const auto groups = co_await load_groups(*volume_);
  if (groups) {
    CO_TRY_VOID(co_await take_structures());
  } else if (groups.error().kind() == ErrorKind::corrupt) {
    CO_TRY_VOID(co_await take_range(superblock + 1, volume_->blocks - superblock.value - 1));
  } else {
    co_return std::unexpected(groups.error());
  }
  co_return dirty;
}

/// Notes the log blocks that hold states of blocks to be saved: what the others hold is data of users' files.
class LogBlocks {
 public:
  LogBlocks(fsck::WorkingCopy& disk, const VolumeReader& reader, Selection& selection)
      : disk_(disk), reader_(reader), selection_(selection) {}
  Task<Result<>> note(BlockNo inode);

 private:
  void note_descriptor(std::span<const std::byte> block, const JournalMap& map, std::uint32_t place);

  fsck::WorkingCopy& disk_;
  const VolumeReader& reader_;
  Selection& selection_;
};

void LogBlocks::note_descriptor(std::span<const std::byte> block, const JournalMap& map, std::uint32_t place) {
  const auto& descriptor = view<LogDescriptor>(block);
  if (descriptor.type != static_cast<std::uint32_t>(LogDescriptorType::journaled_data)) return;
  const auto entries = pointers(block, sizeof(LogDescriptor));
  for (std::uint32_t i = 0; i < descriptor.data1 && 2 * std::size_t{i} < entries.size(); ++i)
    if (selection_.blocks.contains(BlockNo(entries[2 * std::size_t{i}])))
      selection_.log_of_metadata.insert(map.block_at((place + 1 + i) % map.size_blocks()));
}

Task<Result<>> LogBlocks::note(BlockNo inode) {
  auto journal = co_await reader_.read_inode(inode);
  Result<JournalMap> map = fail(ENOENT);
  if (journal) map = co_await map_journal(reader_, *journal);
  if (!map) co_return Result<>{};
  BlockBytes block(reader_.geometry().block_size());
  for (std::uint32_t place = 0; place < map->size_blocks(); ++place) {
    CO_TRY_VOID(co_await disk_.fetch(reader_.geometry().offset_bytes(map->block_at(place)), block));
    if (has_meta_type(block, MetaType::log_descriptor)) note_descriptor(block, *map, place);
  }
  co_return Result<>{};
}

}  // namespace

Task<Result<Selection>> select_metadata(Executor& executor, Device& device, SelectionOptions options) {
  Selection selection;
  fsck::Findings findings([&selection](const fsck::Finding& finding) {
    // A journal that is dirty is not damaged.
    selection.findings += finding.kind == fsck::Kind::journal ? 0 : 1;
    // What is wrong with a block is to be seen, even where the check has given it up.
    selection.blocks.insert(finding.block);
    return fsck::Outcome::told;
  });
  fsck::WorkingCopy disk(executor, device);
  Look later(executor, disk, findings, options, selection);
  auto dirty = co_await later.run(true);
  Result<bool> looked = dirty;
  if (dirty && *dirty) {
    // What the logs replace stands there as well, and is what is looked at before they are replayed.
    disk.drop_changes();
    fsck::Findings again([](const fsck::Finding&) { return fsck::Outcome::told; });
    Look now(executor, disk, again, options, selection);
    looked = co_await now.run(false);
  }
  // The journals as they are written down, past whatever the check would change.
  auto reader = co_await VolumeReader::open(disk);
  Result<> noted;
  for (const BlockNo inode : selection.system)
    if (looked && reader && noted) noted = co_await LogBlocks(disk, *reader, selection).note(inode);
  co_await disk.close();
  if (!looked) co_return std::unexpected(looked.error());
  CO_TRY_VOID(std::move(noted));
  co_return selection;
}

}  // namespace corral::image
