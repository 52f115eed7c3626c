#include "fs/inode.h"

#include <algorithm>

#include <sys/stat.h>

#include "ondisk/validate.h"

namespace corral {

namespace {
/// An inode with its glock, and their places in both tables.
constexpr std::size_t kInodeBytes = sizeof(Inode) + sizeof(Glock) + 192;
/// One that rests, and its place in the table.
constexpr std::size_t kRestingBytes = 56;
/// Changes that are not worth a look.
constexpr std::uint64_t kUncountedBytes = 1 << 20;
/// The cache of blocks keeps at least this part of its share.
constexpr std::uint64_t kLeastShare = 8;

std::unexpected<Error> misnamed(BlockNo address, std::uint64_t in_entry, std::uint64_t in_dinode) {
  return fail_corrupt("inode {}: its formal number is {}, but a directory entry that names it says {}", address.value,
                      in_dinode, in_entry);
}
}  // namespace

Inode::Inode(InodeTable& table, BlockNo address, std::uint64_t formal_number, GlockRef glock)
    : table_(table), address_(address), formal_number_(formal_number), glock_(std::move(glock)) {}

Inode::~Inode() = default;

bool Inode::may_rest() const {
  return lookups != 0 && opens == 0 && !unlinked && !free_wanted && dirty == nullptr && !iopen.held();
}

void intrusive_ptr_add_ref(Inode* inode) {
  if (inode->references_++ == 0) inode->unlink();
}

void intrusive_ptr_release(Inode* inode) {
  if (--inode->references_ == 0) inode->table_.note_unused(*inode);
}

bool LockedInode::is_directory() const {
  return S_ISDIR(mode_bits());
}
bool LockedInode::is_regular() const {
  return S_ISREG(mode_bits());
}
bool LockedInode::is_symlink() const {
  return S_ISLNK(mode_bits());
}

InodeTable::~InodeTable() {
  // The kernel's references end with the mount.
  for (auto& [address, inode] : inodes_)
    CHECK_INVARIANT(inode->references_ == 0);
}

void InodeTable::note_unused(Inode& inode) {
  // An inode the kernel knows stays, so that its state in memory (unlinked, window, dirty data) is not lost.
  if (inode.lookups == 0 && inode.opens == 0 && !inode.unlinked && !inode.free_wanted && inode.dirty == nullptr) {
    inodes_.erase(inode.address_);
    share_memory();
    return;
  }
  if (!inode.may_rest()) return;
  unused_.push_back(inode);
  while (inodes_.size() > most_awake() && !unused_.empty())
    rest(unused_.front());
}

void InodeTable::rest(Inode& inode) {
  resting_.emplace(inode.address_, KnownInode{inode.formal_number_, inode.lookups});
  inodes_.erase(inode.address_);
  share_memory();
}

std::size_t InodeTable::most_awake() const {
  return volume_.options.metadata_bytes() / 2 / kInodeBytes;
}

std::uint64_t InodeTable::memory_bytes() const {
  return inodes_.size() * kInodeBytes + resting_.size() * kRestingBytes;
}

void InodeTable::share_memory() {
  const std::uint64_t taken = memory_bytes();
  if (std::max(taken, counted_bytes_) - std::min(taken, counted_bytes_) < kUncountedBytes) return;
  counted_bytes_ = taken;
  const std::uint64_t share = volume_.options.metadata_bytes();
  volume_.cache.set_limit_bytes(share - std::min<std::uint64_t>(taken, share - share / kLeastShare));
}

Inode& InodeTable::add(BlockNo address, std::uint64_t formal_number) {
  GlockRef glock = volume_.glocks.get(GlockType::inode, address.value);
  std::unique_ptr<Inode> inode(new Inode(*this, address, formal_number, std::move(glock)));
  Inode& added = *inodes_.emplace(address, std::move(inode)).first->second;
  share_memory();
  return added;
}

Result<InodeRef> InodeTable::get(BlockNo address, std::uint64_t formal_number) {
  InodeRef inode = find(address);
  if (inode == nullptr) return InodeRef(&add(address, formal_number));
  if (inode->formal_number_ != formal_number) {
    // Only an inode that is referred to is sure to be still the one it was: other nodes do not free those.
    const bool referred_to = inode->lookups != 0 || inode->opens != 0;
    const bool may_be_stale = volume_.glocks.clustered() && (!referred_to || !is_certain(*inode));
    if (!may_be_stale) return misnamed(address, formal_number, inode->formal_number_);
    inode->formal_number_ = formal_number;
    inode->unlinked = inode->free_wanted = false;
    inode->told = {};
    inode->window.reset();
  }
  return inode;
}

InodeRef InodeTable::find(BlockNo address) {
  if (auto found = inodes_.find(address); found != inodes_.end()) return InodeRef(found->second.get());
  auto rested = resting_.extract(address);
  if (rested.empty()) return nullptr;
  Inode& inode = add(address, rested.mapped().formal_number);
  inode.lookups = rested.mapped().lookups;
  return InodeRef(&inode);
}

void InodeTable::discard(Inode& inode) {
  inode.unlinked = inode.free_wanted = false;
  inode.iopen.release();
  inode.lookups = 0;
  inode.opens = inode.writers = 0;
}

void InodeTable::discard_all() {
  for (auto& [address, inode] : inodes_)
    CHECK_INVARIANT(inode->references_ == 0);
  inodes_.clear();
  resting_.clear();
}

Task<Result<LockedInode>> InodeTable::lock(InodeRef inode, GlockMode mode) {
  CO_TRY(GlockHolder holder, co_await inode->glock().acquire(mode));
  co_return co_await read(std::move(inode), std::move(holder));
}

Task<Result<LockedInode>> InodeTable::read(InodeRef inode, GlockHolder holder) {
  CO_TRY(BlockRef block, co_await volume_.cache.read(inode->glock().blocks(), inode->address(), ondisk::check_dinode));
  const auto& dinode = block->as<ondisk::Dinode>();
  if (dinode.num.formal_ino != inode->formal_number()) {
    // Nothing but the entry that named it has told us the number.
    if (inode->lookups == 0 && inode->opens == 0 && !volume_.glocks.clustered())
      co_return misnamed(inode->address(), inode->formal_number(), dinode.num.formal_ino);
    co_return fail(ESTALE);
  }
  if (dinode.nlink == 0 && (inode->lookups != 0 || inode->opens != 0)) inode->unlinked = true;
  co_return LockedInode(std::move(inode), std::move(holder), std::move(block));
}

GlockRef InodeTable::iopen_glock(BlockNo address) {
  return volume_.glocks.get(GlockType::iopen, address.value);
}

Task<Result<>> InodeTable::pin(InodeRef inode) {
  if (!volume_.glocks.clustered() || inode->iopen.held()) co_return Result<>{};
  CO_TRY(GlockHolder holder, co_await iopen_glock(inode->address())->acquire(GlockMode::shared));
  if (!inode->iopen.held()) inode->iopen = std::move(holder);
  co_return Result<>{};
}

Task<Result<std::optional<InodeTable::NewPlace>>> InodeTable::claim(BlockNo address, GlockHolder held) {
  NewPlace place;
  GlockRef glock = volume_.glocks.get(GlockType::inode, address.value);
  if (held.held() && &held.glock() == glock.get()) {
    place.glock = std::move(held);
  } else {
    CO_TRY(std::optional<GlockHolder> holder, co_await glock->attempt(GlockMode::exclusive));
    if (!holder) co_return std::nullopt;
    place.glock = *std::move(holder);
  }
  if (volume_.glocks.clustered()) {
    // Who has it gives it up without waiting for anything: the block is free.
    CO_TRY(place.iopen, co_await iopen_glock(address)->acquire(GlockMode::shared));
  }
  co_return place;
}

Result<LockedInode> InodeTable::make(NewPlace place, std::uint64_t formal_number) {
  const BlockNo address(place.glock.glock().name().number);
  if (InodeRef inode = find(address)) {
    const bool referred_to = inode->lookups != 0 || inode->opens != 0;
    if (!volume_.glocks.clustered() || (referred_to && is_certain(*inode)))
      return fail_corrupt("block {} was allocated as a new inode, but inode {} is in use", address.value,
                          address.value);
  }
  TRY(InodeRef inode, get(address, formal_number));
  inode->iopen = std::move(place.iopen);
  BlockRef block = volume_.cache.create(inode->glock().blocks(), address);
  return LockedInode(std::move(inode), std::move(place.glock), std::move(block));
}

KnownInodes InodeTable::known(BlockNo root) const {
  KnownInodes known;
  for (const auto& [address, inode] : inodes_)
    if (inode->lookups != 0 && address != root)
      known.emplace(address, KnownInode{inode->formal_number_, inode->lookups});
  known.insert(resting_.begin(), resting_.end());
  return known;
}

void InodeTable::remember(const KnownInodes& known) {
  for (const auto& [address, one] : known) {
    // One that is in memory already is on its way to be freed: it has no name that the kernel could have come by.
    if (InodeRef inode = find(address))
      inode->lookups += one.lookups;
    else
      resting_.emplace(address, one);
  }
  share_memory();
}

template <class Predicate>
std::vector<InodeRef> InodeTable::select(Predicate wanted) {
  std::vector<InodeRef> selected;
  for (auto& [address, inode] : inodes_) {
    if (wanted(*inode)) selected.emplace_back(inode.get());
  }
  std::ranges::sort(selected, {}, [](const InodeRef& inode) { return inode->address(); });
  return selected;
}

std::vector<InodeRef> InodeTable::dirty_inodes() {
  return select([](const Inode& inode) { return inode.dirty != nullptr; });
}

std::vector<InodeRef> InodeTable::unlinked_inodes() {
  return select([](const Inode& inode) { return inode.unlinked || inode.free_wanted; });
}

void InodeTable::unpin_all() {
  for (const InodeRef& inode : select([](const Inode& one) { return one.iopen.held(); }))
    inode->iopen.release();
}

std::vector<InodeRef> InodeTable::told_inodes() {
  return select([](const Inode& inode) { return inode.told.attributes || inode.told.names || inode.told.data; });
}

}  // namespace corral
