#include "fs/filesystem.h"

#include <cstdlib>

#include "offline/totals.h"
#include "offline/volume_reader.h"

namespace corral {

namespace {
/// Inodes freed at the same time; more would only queue for the same resource groups.
constexpr std::uint64_t kReclaimsAtOnce = 16;
/// GFS2_RENAME_LOCK
constexpr std::uint64_t kRenameGlock = 1;

std::string fsid(const ondisk::SuperblockInfo& superblock, const MountOptions& options, JournalId journal) {
  const std::string& table = options.lock_table.empty() ? superblock.lock_table : options.lock_table;
  return fmt::format("fsid={}.{}: ", table.empty() ? "corral" : table, journal.value);
}
}  // namespace

Filesystem::Filesystem(Environment environment, MountOptions options, ondisk::SuperblockInfo superblock)
    : environment_(std::move(environment)),
      options_(std::move(options)),
      superblock_(std::move(superblock)),
      geometry_(superblock_.geometry),
      cache_(environment.executor, environment.device, geometry_, options_.metadata_bytes()),
      glocks_(environment_.executor, environment_.lock_space),
      volume_{.executor = environment.executor,
              .clock = environment.executor.clock(),
              .device = environment.device,
              .log = Logger(environment.log, fsid(superblock_, options_, environment_.journal)),
              .options = options_,
              .geometry = geometry_,
              .cache = cache_,
              .glocks = glocks_,
              .random = Random(environment.random_seed),
              .withdraw_reason = {},
              .on_withdraw = {}},
      operations_(*this),
      unmounting_(environment.executor),
      reclaim_slots_(environment.executor, kReclaimsAtOnce),
      reclaims_(std::make_unique<Scope>(environment.executor)),
      background_(std::make_unique<Scope>(environment.executor)) {
  rename_glock_ = glocks_.get(GlockType::nondisk, kRenameGlock);
  volume_.on_withdraw = [this](const Error& reason) { withdrawn(reason); };
  inodes_ = std::make_unique<InodeTable>(volume_);
  allocator_ = std::make_unique<Allocator>(volume_);
  tree_ = std::make_unique<MetadataTree>(volume_, *allocator_);
  directories_ = std::make_unique<Directories>(volume_, *allocator_, *tree_);
  data_ = std::make_unique<FileData>(volume_, *allocator_, *tree_, options_.dirty_data_bytes());
  attributes_ = std::make_unique<ExtendedAttributes>(volume_, *allocator_, superblock_.fs_format);
  freezer_ = std::make_unique<Freezer>(volume_, environment_.journal, [this] { return come_to_rest(); });
}

bool Filesystem::in_group(const Caller& caller, std::uint32_t gid) const {
  return caller.gid == gid || (environment_.in_additional_groups && environment_.in_additional_groups(caller, gid));
}

Filesystem::~Filesystem() {
  // What still runs holds glocks, inodes and blocks: it goes first, then what it held, downwards.
  glocks_.abandon();
  freezer_.reset();
  reclaims_.reset();
  background_.reset();
  data_.reset();
  journal_.reset();
  allocator_.reset();
  root_ = nullptr;
  inodes_->discard_all();
  cache_.discard_all();
}

Task<Result<std::unique_ptr<Filesystem>>> Filesystem::mount(Environment environment, MountOptions options) {
  CO_TRY(VolumeReader reader, co_await VolumeReader::open(environment.device));
  const std::string protocol =
      options.lock_protocol.empty() ? reader.superblock().lock_protocol : options.lock_protocol;
  if (protocol != "lock_nolock" && environment.lock_space == nullptr) {
    co_return fail(EINVAL,
                   "{}: the volume belongs to a cluster of another kind (lock protocol {}); with no node having it "
                   "mounted, \"corral adopt {}\" makes it a volume for several nodes of Corral, and -o "
                   "lockproto=lock_nolock mounts it on this node alone",
                   environment.device.name(), protocol, environment.device.name());
  }
  if (environment.device.geometry().read_only && !options.read_only) {
    co_return fail(EROFS, "{}: the device is read-only; mount with -o ro", environment.device.name());
  }
  std::unique_ptr<Filesystem> filesystem(new Filesystem(environment, std::move(options), reader.superblock()));
  Result<> opened = co_await filesystem->open();
  if (!opened) {
    co_await filesystem->abandon_mount();
    co_return std::unexpected(opened.error().within(environment.device.name()));
  }
  co_return filesystem;
}

Task<Result<>> Filesystem::open() {
  CO_TRY_VOID(co_await join_cluster());
  CO_TRY_VOID(co_await replay_journals());
  if (!options_.read_only && !options_.spectator) open_journal();
  CO_TRY(Allocator::SystemFiles files, co_await open_system_files());
  CO_TRY_VOID(co_await allocator_->open(std::move(files)));
  CO_TRY(root_, inodes_->get(root(), superblock_.root_dir.formal_ino));
  CO_TRY(LockedInode locked, co_await inodes_->lock(root_, GlockMode::shared));
  if (!locked.is_directory()) co_return fail_corrupt("the root inode {} is not a directory", root().value);
  locked.release();
  if (journal_ != nullptr) {
    allocator_->before_no_space = [this] { return reclaim_finished(); };
    allocator_->on_unlinked_found = [this](std::span<const BlockNo> found) {
      // Others free what they have open. What was met by chance is not worth waiting for the end of a freeze.
      if (!volume_.try_join_change()) return;
      for (BlockNo address : found) {
        if (!reclaims_closed_) reclaims_->spawn(reclaim_left_over(address));
      }
    };
    CO_TRY(const GlockHolder changing, co_await freezer_->enter());
    CO_TRY_VOID(co_await journal_->show_use());
    // What nodes that died had open must not wait until its resource group happens to be used.
    if (work_left_) {
      co_await take_over_totals();
      reclaim_orphans();
    }
    if (glocks_.clustered()) background_->spawn(keep_totals());
  }
  co_return Result<>{};
}

Task<Result<>> Filesystem::replay_journals() {
  // Beside others the own journal is clean, or in use by who is to look for what the dead have left: not a mount that
  // writes nothing.
  if (options_.spectator || (options_.read_only && !environment_.first_mounter)) co_return Result<>{};
  CO_TRY(VolumeReader reader, co_await VolumeReader::open(environment_.device));
  OfflineReplayOptions how;
  how.dry_run = environment_.device.geometry().read_only;
  if (!environment_.first_mounter) how.only = environment_.journal;
  if (!options_.read_only) how.in_use = environment_.journal;
  CO_TRY(std::vector<OfflineReplay> replays, co_await replay_offline(environment_.executor, reader, how, volume_.log));
  for (OfflineReplay& replay : replays) {
    const bool dirty = !replay.report.head.clean();
    if (dirty && how.dry_run) {
      co_return fail(EROFS,
                     "journal {} must be replayed, but the device is read-only; make it writable, or mount with -o "
                     "spectator to look at the volume as it is",
                     replay.journal.id.value);
    }
    work_left_ |= replay.report.replayed || replay.report.head.frozen();
    if (replay.journal.id == environment_.journal) own_journal_ = std::move(replay);
  }
  if (!own_journal_) co_return fail_corrupt("the volume has no journal{}", environment_.journal.value);
  // A mount that writes moves the totals along itself.
  if (environment_.first_mounter && options_.read_only && work_left_)
    co_return co_await settle_totals(environment_.executor, reader, volume_.log);
  co_return Result<>{};
}

void Filesystem::open_journal() {
  Journal::Options options;
  options.id = environment_.journal;
  options.inode = own_journal_->journal.inode;
  options.head_block = own_journal_->report.next_block;
  options.next_sequence = own_journal_->report.next_sequence;
  options.commit_interval = options_.commit_interval;
  options.header_extras = [this] { return allocator_->header_extras(); };
  options.on_failure = [this](const Error& error) { volume_.withdraw(error); };
  options.on_commit = [this] { allocator_->note_commit(); };
  journal_ = std::make_unique<Journal>(environment_.executor, cache_, own_journal_->journal.map, std::move(options),
                                       volume_.log);
  journal_->start();
  volume_.journal = journal_.get();
}

Task<Result<InodeRef>> Filesystem::system_inode(InodeRef directory, std::string name) {
  CO_TRY(LockedInode locked, co_await inodes_->lock(std::move(directory), GlockMode::shared));
  auto entry = co_await directories_->lookup(locked, name);
  if (!entry && entry.error().code() == ENOENT) co_return fail_corrupt("the system file {} is missing", name);
  CO_TRY_VOID(entry);
  co_return inodes_->get(entry->address, entry->formal_number);
}

Task<Result<Allocator::SystemFiles>> Filesystem::open_system_files() {
  CO_TRY(InodeRef master, inodes_->get(BlockNo(superblock_.master_dir.addr), superblock_.master_dir.formal_ino));
  Allocator::SystemFiles files;
  CO_TRY(files.rindex, co_await system_inode(master, "rindex"));
  CO_TRY(files.statfs, co_await system_inode(master, "statfs"));
  CO_TRY(files.quota, co_await system_inode(master, "quota"));
  if (journal_ != nullptr) {
    CO_TRY(InodeRef per_node, co_await system_inode(master, "per_node"));
    CO_TRY(files.statfs_change,
           co_await system_inode(per_node, fmt::format("statfs_change{}", environment_.journal.value)));
    CO_TRY(files.quota_change,
           co_await system_inode(per_node, fmt::format("quota_change{}", environment_.journal.value)));
  }
  co_return files;
}

void Filesystem::withdrawn(const Error& reason) {
  volume_.log.error("{}: {}", environment_.device.name(), reason.describe());
  if (options_.errors == ErrorPolicy::panic) {
    volume_.log.error("errors=panic: giving up");
    std::abort();
  }
  volume_.log.error("about to withdraw this filesystem: nothing more is written, every operation fails with EIO");
  if (reason.kind() == ErrorKind::corrupt) volume_.log.error("unmount it, run fsck, mount it again");
  if (journal_ != nullptr) journal_->abandon();
  glocks_.refuse();
  if (environment_.withdrawn) environment_.withdrawn(reason);
}

void Filesystem::reclaim_if_unused(const InodeRef& inode) {
  if ((!inode->unlinked && !inode->free_wanted) || inode->lookups != 0 || inode->opens != 0 || !volume_.writable())
    return;
  reclaims_->spawn(reclaim(inode));
}

Task<void> Filesystem::reclaim_finished() {
  co_await reclaims_->join();
}

Task<void> Filesystem::reclaim(InodeRef inode) {
  co_await reclaim_slots_.acquire();
  Result<> freed = co_await free_inode(inode);
  reclaim_slots_.release();
  if (freed) co_return;
  if (freed.error().code() == ESTALE) {
    // Freed and used anew by another node, which may rely on this one to free what is there now.
    if (inode->lookups != 0 || inode->opens != 0) co_return;
    inode->unlinked = inode->free_wanted = false;
    co_return co_await reclaim_left_over(inode->address());
  }
  volume_.log.error("inode {}: cannot free it: {}", inode->address().value, freed.error().describe());
  if (freed.error().kind() != ErrorKind::expected) volume_.withdraw(freed.error());
}

Task<Result<>> Filesystem::free_inode(InodeRef inode) {
  CO_TRY(const GlockHolder changing, co_await volume_.join_change());
  CO_TRY(GlockHolder holder, co_await inode->glock().acquire(GlockMode::exclusive));
  if (!inode->unlinked && !inode->free_wanted) co_return Result<>{};  // it was freed meanwhile
  // Referred to again, or freed and another inode's by now: its iopen glock is what keeps other nodes from freeing it.
  // The last reference to go tries again.
  if (inode->lookups != 0 || inode->opens != 0) co_return Result<>{};
  GlockHolder iopen;
  CO_TRY(const bool may, co_await may_free(*inode, iopen));
  if (!may) {
    inode->unlinked = inode->free_wanted = false;
    co_return Result<>{};
  }
  CO_TRY(LockedInode locked, co_await inodes_->read(inode, std::move(holder)));
  if (locked.dinode().nlink != 0) {  // it was linked again
    inode->unlinked = inode->free_wanted = false;
    co_return Result<>{};
  }
  co_await data_->discard(*inode);
  if (locked.is_directory()) {
    CO_TRY_VOID(co_await directories_->free_contents(locked));
  }
  // A directory's table is left as a file's blocks are.
  CO_TRY_VOID(co_await data_->free_contents(locked));
  CO_TRY_VOID(co_await attributes_->free_all(locked));
  const Ownership owner = ownership_of(locked.dinode());
  CO_TRY(Release release, co_await allocator_->prepare_release(std::vector<BlockNo>{inode->address()}));
  CO_TRY(Transaction transaction, co_await journal_->begin({.blocks = release.log_blocks(), .revokes = 1}));
  CO_TRY_VOID(release.free_dinode(transaction, inode->address(), owner));
  transaction.free_block(inode->address());
  inodes_->discard(*inode);
  co_return Result<>{};
}

/// An inode in memory was found in state unlinked. If this node knows that, its freeing is taken care of already; a
/// second one would still hold the inode when its block is given out again.
void Filesystem::another_node_left(const InodeRef& known) {
  if (!glocks_.clustered() || known->unlinked) return;
  known->free_wanted = true;
  reclaim_if_unused(known);
}

/// False for one that is in memory by chance: it may be what was at that address before.
bool Filesystem::is_looked_after(const InodeRef& known) {
  return known != nullptr && (known->unlinked || known->lookups != 0 || known->opens != 0);
}

/// A dinode in state unlinked that a dead node, or an earlier life of this one, had open.
Task<void> Filesystem::reclaim_left_over(BlockNo address) {
  co_await environment_.executor.yield();  // the finder is in the middle of an operation
  if (InodeRef known = inodes_->find(address); is_looked_after(known)) co_return another_node_left(known);
  InodeRef inode;
  {
    auto state = co_await allocator_->state_of(address);
    // Nobody else will look at it: this node was told as the last one to let go.
    if (!state) not_looked_at_.insert(address);
    if (!state || *state != ondisk::BlockState::unlinked) co_return;
    GlockRef glock = glocks_.get(GlockType::inode, address.value);
    auto holder = co_await glock->acquire(GlockMode::shared);
    if (!holder) co_return;
    if (InodeRef known = inodes_->find(address); is_looked_after(known)) co_return another_node_left(known);
    auto block = co_await cache_.read(glock->blocks(), address, ondisk::check_dinode);
    if (!block && block.error().kind() == ErrorKind::device) not_looked_at_.insert(address);
    if (!block) {
      volume_.log.warning("inode {}: it has no links, but cannot be freed: {}", address.value,
                          block.error().describe());
      co_return;
    }
    const auto& dinode = (*block)->as<ondisk::Dinode>();
    if (dinode.nlink != 0) co_return;  // the block was used anew meanwhile
    auto known = inodes_->get(address, dinode.num.formal_ino);
    if (!known) co_return;
    inode = *known;
  }
  inode->unlinked = true;
  co_await reclaim(inode);
}

Task<void> Filesystem::look_again_at_left_over() {
  for (const BlockNo address : std::exchange(not_looked_at_, {}))
    co_await reclaim_left_over(address);
}

Task<void> Filesystem::sweep_unlinked() {
  auto visit = [this](BlockNo address) -> Task<Result<>> { return reclaim_one_left_over(address); };
  Result<> swept = co_await allocator_->for_each_unlinked(visit);
  if (!swept && !volume_.withdrawn) {
    volume_.log.warning("cannot look for inodes without links: {}", swept.error().describe());
  }
}

Task<Result<>> Filesystem::reclaim_one_left_over(BlockNo address) {
  co_await reclaim_left_over(address);
  co_return Result<>{};
}

void Filesystem::reclaim_orphans() {
  if (journal_ == nullptr) return;
  totals_left_ = true;
  background_->spawn(sweep_unlinked());
}

/// The kernel has let go of the mount: nobody refers to any inode any more. Others who tried to free one while this
/// node had its iopen glock rely on this node; afterwards it has none, and whoever else is in the way is relied on.
Task<Result<>> Filesystem::reclaim_everything() {
  unmounting_.set();
  if (freezer_->frozen() && (reclaims_->running() != 0 || !inodes_->unlinked_inodes().empty() || totals_left_))
    volume_.log.warning(
        "there are inodes without links to be freed, but the volume is frozen: unmounting waits until it is thawed");
  co_await background_->join();
  co_await look_again_at_left_over();
  for (const InodeRef& inode : inodes_->unlinked_inodes()) {
    inode->lookups = 0;
    inode->opens = 0;
    reclaim_if_unused(inode);
  }
  co_await reclaim_finished();
  if (!glocks_.clustered() || volume_.withdrawn) co_return Result<>{};
  inodes_->unpin_all();
  co_await glocks_.give_back(GlockType::iopen);
  co_await reclaim_finished();
  co_await look_again_at_left_over();
  reclaims_closed_ = true;
  co_return Result<>{};
}

/// Nothing on a volume that is frozen: everything was written then, and the journal is clean.
Task<Result<>> Filesystem::write_everything() {
  CO_TRY(const auto changing, co_await freezer_->change_unless_at_rest());
  if (changing) {
    CO_TRY_VOID(co_await data_->write_back_all());
    CO_TRY_VOID(co_await allocator_->sync_quota());
    CO_TRY_VOID(co_await allocator_->sync_statfs());
    co_await take_over_totals();
  }
  co_await reclaim_finished();
  co_await glocks_.settle();
  if (changing && volume_.writable()) co_return co_await journal_->shut_down(true);
  co_return Result<>{};
}

Task<Result<>> Filesystem::come_to_rest() {
  if (journal_->frozen()) co_return Result<>{};
  CO_TRY_VOID(co_await data_->write_back_all());
  CO_TRY_VOID(co_await allocator_->sync_quota());
  CO_TRY_VOID(co_await allocator_->sync_statfs());
  if (std::exchange(totals_left_, false)) co_await take_over_totals();
  co_return co_await journal_->freeze();
}

Task<Result<>> Filesystem::unmount() {
  Result<> result;
  if (volume_.writable()) {
    co_await freezer_->close();
    result = co_await reclaim_everything();
    if (result) result = co_await write_everything();
  }
  if (volume_.withdrawn) result = fail(EIO, "the filesystem had withdrawn: {}", volume_.withdraw_reason);
  co_await abandon_mount();
  co_return result;
}

Task<void> Filesystem::abandon_mount() {
  if (journal_ != nullptr) {
    journal_->abandon();
    co_await journal_->stopped();
  }
  glocks_.refuse();
  glocks_.abandon();
  freezer_->abandon();
  unmounting_.set();
  co_await background_->join();
  co_await reclaims_->join();
  for (const InodeRef& inode : inodes_->dirty_inodes())
    co_await data_->discard(*inode);
  co_await cache_.quiesce();
  co_await allocator_->close();
  root_ = nullptr;
  volume_.journal = nullptr;
  journal_ = nullptr;
  cache_.discard_all();
  inodes_->discard_all();
  journal_glock_.release();
  // A node that has withdrawn has not written what its locks protect: they stay until its journal was replayed.
  if (!volume_.withdrawn) co_await glocks_.leave();
}

}  // namespace corral
