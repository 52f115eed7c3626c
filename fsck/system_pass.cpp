#include "fsck/system_pass.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <dirent.h>
#include <sys/stat.h>

#include "base/parse_number.h"
#include "fsck/group_pass.h"
#include "fsck/inode_pass.h"
#include "fsck/journal_pass.h"
#include "fsck/naming.h"
#include "fsck/new_blocks.h"
#include "fsck/system_file.h"
#include "offline/journals.h"
#include "offline/volume_reader.h"
#include "ondisk/validate.h"

namespace corral::fsck {

using namespace ondisk;

namespace {

constexpr std::uint64_t kNewJournalBytes = 8 << 20;
constexpr std::uint64_t kQuotaChangeBytes = 1 << 20;
constexpr std::uint32_t kMostJournals = 1024;

/// What tells one system file from another, when the name is lost or to see whether the file under a name can be it.
enum class Role : std::uint8_t {
  jindex,
  per_node,
  inum,
  statfs,
  rindex,
  quota,
  journal,
  inum_range,
  statfs_change,
  quota_change
};

/// N of a name such as "journalN".
std::optional<std::uint32_t> number_behind(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const auto number = parse_number<std::uint32_t>(name);
  return number && *number < kMostJournals ? number : std::nullopt;
}

template <class T>
std::vector<std::byte> bytes_of(const T& value) {
  auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

class SystemPass {
 public:
  SystemPass(Volume& volume, SystemRepairs repairs) : volume_(volume), repairs_(std::move(repairs)) {}
  Task<Result<>> run();

 private:
  using Names = std::vector<NameEntry>;
  Task<Result<Names>> names_in(BlockNo directory);
  Task<Result<bool>> fits(BlockNo inode, Role role);
  Task<Result<MetaType>> first_block_type(BlockNo inode);
  Task<Result<BlockNo>> find_nameless(Role role);
  Task<Result<BlockNo>> file(BlockNo directory, Names& names, std::string name, Role role);
  Task<Result<BlockNo>> make(BlockNo directory, const std::string& name, Role role);
  Task<Result<>> fill_new(BlockNo inode, Role role);
  std::uint32_t count_journals(const Names& journals) const;
  Task<Result<>> check_journals(BlockNo jindex, BlockNo per_node);
  Task<Result<>> check_journal(BlockNo inode, std::uint32_t number, BlockNo statfs, BlockNo quota);
  Task<Result<>> check_quota_change(BlockNo inode);
  Task<Result<>> check_stuffed(BlockNo inode, std::string_view name, std::size_t bytes);
  Task<Result<>> check_inum(BlockNo inum);
  Task<Result<>> write_index(BlockNo rindex);

  Volume& volume_;
  SystemRepairs repairs_;
  std::uint64_t journal_bytes_ = kNewJournalBytes;
  std::optional<VolumeReader> reader_;  ///< of the working copy
};

Task<Result<SystemPass::Names>> SystemPass::names_in(BlockNo directory) {
  CO_TRY(DirectoryContents contents, co_await read_directory(volume_, directory));
  co_return std::move(contents.entries);
}

/// What a file that is not stuffed begins with; `none` where that is no metadata.
Task<Result<MetaType>> SystemPass::first_block_type(BlockNo inode) {
  auto file = co_await reader_->read_inode(inode);
  if (!file) co_return MetaType::none;
  auto extents = co_await reader_->map(*file, FileBlock(1));
  if (!extents || extents->empty()) co_return MetaType::none;
  CO_TRY(const BlockBytes data, co_await volume_.read(extents->front().start));
  const auto& header = view<MetaHeader>(data);
  co_return header.magic == kMagic ? header.meta_type() : MetaType::none;
}

Task<Result<bool>> SystemPass::fits(BlockNo inode, Role role) {
  CO_TRY(const BlockBytes block, co_await volume_.read(inode));
  const auto& dinode = view<Dinode>(block);
  const bool directory = S_ISDIR(dinode.mode);
  const std::uint64_t size = dinode.size;
  const bool stuffed = dinode.height == 0;
  switch (role) {
    case Role::jindex:
    case Role::per_node: {
      if (!directory || inode == volume_.master()) co_return false;
      CO_TRY(const Names names, co_await names_in(inode));
      const std::string_view sign = role == Role::jindex ? "journal" : "statfs_change";
      co_return std::ranges::any_of(names, [sign](const NameEntry& name) { return name.name.starts_with(sign); });
    }
    case Role::inum:
      co_return stuffed && !directory && size == sizeof(be64);
    case Role::statfs:
    case Role::statfs_change:
      co_return stuffed && !directory && size == sizeof(StatfsChange);
    case Role::inum_range:
      co_return stuffed && !directory && size == sizeof(InumRange);
    case Role::rindex:
      co_return !directory && dinode.payload_format == kFormatResourceIndex;
    case Role::quota:
      co_return !directory && dinode.payload_format == kFormatQuota;
    case Role::journal:
    case Role::quota_change: {
      if (directory || stuffed) co_return false;
      CO_TRY(const MetaType first, co_await first_block_type(inode));
      if (role == Role::quota_change) co_return first == MetaType::quota_change;
      co_return first == MetaType::log_header || first == MetaType::log_descriptor || first == MetaType::log_block;
    }
  }
  co_return false;
}

/// A system file that has lost its name and can be what is missing; 0: none.
Task<Result<BlockNo>> SystemPass::find_nameless(Role role) {
  for (std::size_t i = 0; i < volume_.inodes.inodes().size(); ++i) {
    const InodeRecord& inode = volume_.inodes.inodes()[i];
    if (!inode.is(InodeRecord::kSystem) || !volume_.inodes.is_nameless(inode)) continue;
    const BlockNo number = inode.number();
    CO_TRY(const bool suitable, co_await fits(number, role));
    if (suitable) co_return number;
  }
  co_return BlockNo(0);
}

Task<Result<>> SystemPass::fill_new(BlockNo inode, Role role) {
  switch (role) {
    case Role::inum:
      co_return co_await write_stuffed(volume_, inode, bytes_of(be64(volume_.next_formal_ino)));
    case Role::statfs:
    case Role::statfs_change:
      co_return co_await write_stuffed(volume_, inode, bytes_of(StatfsChange{}));
    case Role::inum_range:
      co_return co_await write_stuffed(volume_, inode, bytes_of(InumRange{}));
    case Role::quota:
      co_return co_await write_stuffed(volume_, inode, bytes_of(std::array<Quota, 2>{}));
    case Role::journal:
      repairs_.journals_to_clear.insert(inode);
      co_return co_await write_contents(volume_, inode, journal_bytes_, [](std::uint64_t, std::span<std::byte>) {});
    case Role::quota_change:
      co_return co_await write_contents(
          volume_, inode, kQuotaChangeBytes,
          [](std::uint64_t, std::span<std::byte> block) { view<MetaHeader>(block).set(MetaType::quota_change); });
    case Role::rindex:
      repairs_.index.emplace();
      for (const Group& group : volume_.map.groups())
        repairs_.index->push_back(index_entry(group));
      co_return Result<>{};
    case Role::jindex:
    case Role::per_node:
      break;
  }
  co_return Result<>{};
}

Task<Result<BlockNo>> SystemPass::make(BlockNo directory, const std::string& name, Role role) {
  std::uint32_t payload = 0;
  if (role == Role::rindex) payload = kFormatResourceIndex;
  if (role == Role::quota) payload = kFormatQuota;
  const bool is_directory = role == Role::jindex || role == Role::per_node;
  const std::uint32_t mode = is_directory ? S_IFDIR | 0700u : S_IFREG | 0600u;
  CO_TRY(const BlockNo inode,
         co_await make_inode(volume_, directory, name, mode, kDinodeSystem | kDinodeJournaledData, payload));
  CO_TRY_VOID(co_await fill_new(inode, role));
  co_return inode;
}

/// The file of that name; made or found again where it is missing. 0: there is none, and that was accepted.
Task<Result<BlockNo>> SystemPass::file(BlockNo directory, Names& names, std::string name, Role role) {
  auto entry = std::ranges::find(names, name, &NameEntry::name);
  if (entry != names.end()) {
    // A repair of the name that was declined may have left one that leads nowhere.
    const InodeRecord* inode = volume_.inodes.find(BlockNo(entry->inode.addr));
    const bool directory_wanted = role == Role::jindex || role == Role::per_node;
    const bool usable = inode != nullptr && (inode->type == DT_DIR) == directory_wanted;
    co_return usable ? inode->number() : BlockNo(0);
  }
  CO_TRY(const BlockNo nameless, co_await find_nameless(role));
  const std::string repair = nameless ? fmt::format("give inode {} that name", nameless.value) : "make a new one";
  if (!volume_.found(Kind::system_file, directory, fmt::format("the system file {} is missing", name), repair))
    co_return BlockNo(0);
  Result<BlockNo> made = nameless;
  if (nameless) {
    const InodeRecord* inode = volume_.inodes.find(nameless);
    auto named = co_await add_names(volume_, directory, {{name, {inode->formal_ino, inode->address}, inode->type}});
    if (!named) made = std::unexpected(named.error());
  } else {
    made = co_await make(directory, name, role);
  }
  if (!made) {
    CO_TRY_VOID(volume_.excuse(std::unexpected(made.error())));
    co_return BlockNo(0);
  }
  co_return *made;
}

/// Journals are numbered without gaps; one that lost its name at the end is known by its inode.
std::uint32_t SystemPass::count_journals(const Names& journals) const {
  std::uint32_t count = 0;
  for (const NameEntry& entry : journals)
    if (auto number = number_behind(entry.name, "journal")) count = std::max(count, *number + 1);
  return count;
}

Task<Result<>> SystemPass::check_journal(BlockNo inode, std::uint32_t number, BlockNo statfs, BlockNo quota) {
  auto file = co_await reader_->read_inode(inode);
  Result<JournalMap> map = file ? co_await map_journal(*reader_, *file) : std::unexpected(file.error());
  if (!map && map.error().kind() == ErrorKind::device) co_return std::unexpected(map.error());
  if (!map) {
    if (!volume_.found(Kind::journal, inode, fmt::format("journal {}: {}", number, map.error().describe()),
                       "make it anew, empty"))
      co_return Result<>{};
    auto done = co_await fill_new(inode, Role::journal);
    if (!done) co_return volume_.excuse(done);
  }
  if (!repairs_.journals_to_clear.contains(inode)) co_return Result<>{};
  co_return co_await clear_journal(volume_, *reader_, inode, JournalId(number), statfs, quota);
}

/// All its blocks must be of their type, or no node can mount with this journal.
Task<Result<>> SystemPass::check_quota_change(BlockNo inode) {
  auto file = co_await reader_->read_inode(inode);
  if (!file) co_return Result<>{};
  const std::uint64_t size = file->size_bytes();
  const std::uint64_t blocks = volume_.geometry.blocks_for(size);
  auto extents = co_await reader_->map(*file, FileBlock(blocks));
  std::uint64_t mapped = 0;
  std::vector<BlockNo> bad;
  if (extents) {
    for (const FileExtent& extent : *extents) {
      mapped += extent.length;
      for (std::uint64_t i = 0; i < extent.length; ++i) {
        CO_TRY(const BlockBytes block, co_await volume_.read(extent.start + i));
        if (!has_meta_type(block, MetaType::quota_change)) bad.push_back(extent.start + i);
      }
    }
  }
  if (size < kQuotaChangeBytes || size % volume_.geometry.block_size() != 0 || mapped != blocks) {
    if (!volume_.found(
            Kind::system_file, inode,
            fmt::format("inode {}: a quota_change file of {} bytes with {} blocks", inode.value, size, mapped),
            "make it anew, empty"))
      co_return Result<>{};
    co_return volume_.excuse(co_await fill_new(inode, Role::quota_change));
  }
  if (bad.empty() || !volume_.found(Kind::quota, inode,
                                    fmt::format("inode {}: {} blocks of this quota_change file are damaged (block {})",
                                                inode.value, bad.size(), bad.front().value),
                                    "empty them"))
    co_return Result<>{};
  for (BlockNo block : bad) {
    BlockBytes bytes(volume_.geometry.block_size());
    view<MetaHeader>(bytes).set(MetaType::quota_change);
    volume_.write(block, bytes);
  }
  co_return Result<>{};
}

/// A small file whose contents must lie within its dinode.
Task<Result<>> SystemPass::check_stuffed(BlockNo inode, std::string_view name, std::size_t bytes) {
  CO_TRY(const BlockBytes block, co_await volume_.read(inode));
  const auto& dinode = view<Dinode>(block);
  if (dinode.height == 0 && dinode.size == bytes && S_ISREG(dinode.mode)) co_return Result<>{};
  if (!volume_.found(Kind::system_file, inode,
                     fmt::format("the system file {} (inode {}): {} bytes, height {}, expected {} within the inode",
                                 name, inode.value, dinode.size.value(), dinode.height.value(), bytes),
                     "make it so"))
    co_return Result<>{};
  std::vector<std::byte> contents(bytes);
  if (dinode.height == 0) std::memcpy(contents.data(), block.data() + sizeof(Dinode), bytes);
  CO_TRY_VOID(co_await write_stuffed(volume_, inode, contents));
  CO_TRY(BlockBytes changed, co_await volume_.read(inode));
  view<Dinode>(changed).mode = S_IFREG | 0600u;
  volume_.write(inode, changed);
  co_return Result<>{};
}

Task<Result<>> SystemPass::check_inum(BlockNo inum) {
  CO_TRY_VOID(co_await check_stuffed(inum, "inum", sizeof(be64)));
  CO_TRY(BlockBytes block, co_await volume_.read(inum));
  // Since inodes take their numbers from the resource groups nobody counts here any more; old kernels do.
  auto& next = view<be64>(block, sizeof(Dinode));
  if (next != 0 && next >> 62 == 0) co_return Result<>{};
  if (!volume_.found(Kind::system_file, inum,
                     fmt::format("the file inum gives out formal inode numbers from {} on", next.value()),
                     fmt::format("set it to {}", volume_.next_formal_ino)))
    co_return Result<>{};
  next = volume_.next_formal_ino;
  volume_.write(inum, block);
  co_return Result<>{};
}

Task<Result<>> SystemPass::check_journals(BlockNo jindex, BlockNo per_node) {
  CO_TRY(Names journals, co_await names_in(jindex));
  std::uint32_t count = count_journals(journals);
  // The last one's name may be what is lost.
  CO_TRY(const BlockNo nameless, co_await find_nameless(Role::journal));
  if (nameless || count == 0) ++count;
  for (const NameEntry& entry : journals) {
    if (!number_behind(entry.name, "journal")) continue;
    auto inode = co_await reader_->read_inode(BlockNo(entry.inode.addr));
    if (inode && co_await map_journal(*reader_, *inode)) journal_bytes_ = inode->size_bytes();
  }
  CO_TRY(Names locals, co_await names_in(per_node));
  for (std::uint32_t i = 0; i < count; ++i) {
    CO_TRY(const BlockNo range, co_await file(per_node, locals, fmt::format("inum_range{}", i), Role::inum_range));
    CO_TRY(const BlockNo statfs,
           co_await file(per_node, locals, fmt::format("statfs_change{}", i), Role::statfs_change));
    CO_TRY(const BlockNo quota, co_await file(per_node, locals, fmt::format("quota_change{}", i), Role::quota_change));
    CO_TRY(const BlockNo journal, co_await file(jindex, journals, fmt::format("journal{}", i), Role::journal));
    if (range) CO_TRY_VOID(co_await check_stuffed(range, "inum_range", sizeof(InumRange)));
    if (statfs) CO_TRY_VOID(co_await check_stuffed(statfs, "statfs_change", sizeof(StatfsChange)));
    if (quota) CO_TRY_VOID(co_await check_quota_change(quota));
    if (journal) CO_TRY_VOID(co_await check_journal(journal, i, statfs, quota));
  }
  co_return Result<>{};
}

Task<Result<>> SystemPass::write_index(BlockNo rindex) {
  if (!repairs_.index) co_return Result<>{};
  const std::vector<ResourceGroupIndexEntry>& index = *repairs_.index;
  const auto bytes = std::as_bytes(std::span(index));
  Result<> done;
  if (bytes.size() <= volume_.geometry.stuffed_bytes()) {
    done = co_await write_stuffed(volume_, rindex, bytes);
  } else {
    const std::size_t block_size = volume_.geometry.block_size();
    auto fill = [bytes, block_size](std::uint64_t i, std::span<std::byte> block) {
      const auto part = bytes.subspan(i * block_size, std::min(block_size, bytes.size() - i * block_size));
      std::ranges::copy(part, block.begin());
    };
    done = co_await write_contents(volume_, rindex, bytes.size(), fill);
  }
  if (!done) co_return volume_.excuse(done);
  CO_TRY(BlockBytes block, co_await volume_.read(rindex));
  view<Dinode>(block).payload_format = kFormatResourceIndex;
  volume_.write(rindex, block);
  co_return Result<>{};
}

Task<Result<>> SystemPass::run() {
  volume_.progress("system files", 0, 1);
  const BlockNo master = volume_.master();
  const InodeRecord* record = volume_.inodes.find(master);
  if (record == nullptr || record->type != DT_DIR) co_return Result<>{};
  CO_TRY(reader_, co_await VolumeReader::open(volume_.disk));
  CO_TRY(Names names, co_await names_in(master));
  CO_TRY(const BlockNo jindex, co_await file(master, names, "jindex", Role::jindex));
  CO_TRY(const BlockNo per_node, co_await file(master, names, "per_node", Role::per_node));
  CO_TRY(const BlockNo statfs, co_await file(master, names, "statfs", Role::statfs));
  CO_TRY(const BlockNo rindex, co_await file(master, names, "rindex", Role::rindex));
  CO_TRY_VOID(co_await file(master, names, "quota", Role::quota));
  if (jindex && per_node) CO_TRY_VOID(co_await check_journals(jindex, per_node));
  if (statfs) CO_TRY_VOID(co_await check_stuffed(statfs, "statfs", sizeof(StatfsChange)));
  if (rindex) CO_TRY_VOID(co_await write_index(rindex));
  // Last, for its number is to be above those of all that was made before.
  CO_TRY(const BlockNo inum, co_await file(master, names, "inum", Role::inum));
  if (inum) CO_TRY_VOID(co_await check_inum(inum));
  co_return Result<>{};
}

/// An empty directory at the place where the superblock wants it.
Task<Result<>> ensure_directory(Volume& volume, const InodeIdentity& identity, std::string_view name, bool system) {
  const BlockNo address(identity.addr);
  const InodeRecord* record = volume.inodes.find(address);
  if (record != nullptr && record->type == DT_DIR && record->is(InodeRecord::kSystem) == system) co_return Result<>{};
  if (!volume.map.contains(address))
    co_return fail(ECANCELED, "the superblock's {} directory lies in no resource group", name);
  if (!volume.found(Kind::dinode, address, fmt::format("the {} directory (inode {}) is lost", name, address.value),
                    "make it anew"))
    co_return fail(ECANCELED, "without a {} directory nothing more can be checked", name);
  if (record != nullptr) CO_TRY_VOID(co_await free_inode(volume, address));
  const std::uint32_t mode = S_IFDIR | (system ? 0700u : 0755u);
  BlockBytes block = new_dinode(volume, address, mode, kDinodeJournaledData | (system ? kDinodeSystem : 0));
  auto& dinode = view<Dinode>(block);
  dinode.num.formal_ino = identity.formal_ino;
  dinode.size = volume.geometry.stuffed_bytes();
  dinode.payload_format = kFormatDirent;
  view<Dirent>(block, sizeof(Dinode)).record_length = static_cast<std::uint16_t>(volume.geometry.stuffed_bytes());
  volume.write(address, block);
  if (volume.map.use(address) != Use::none) volume.duplicates.insert(address);
  co_return co_await take_inode(volume, address);
}

}  // namespace

Task<Result<>> ensure_top_directories(Volume& volume) {
  CO_TRY_VOID(co_await ensure_directory(volume, volume.superblock.master_dir, "master", true));
  co_return co_await ensure_directory(volume, volume.superblock.root_dir, "root", false);
}

Task<Result<>> check_system_files(Volume& volume, SystemRepairs repairs) {
  SystemPass pass(volume, std::move(repairs));
  co_return co_await pass.run();
}

}  // namespace corral::fsck
