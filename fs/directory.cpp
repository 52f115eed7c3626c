#include "fs/directory.h"

#include <limits>

#include <dirent.h>

#include "base/check.h"
#include "fs/chain_guard.h"
#include "fs/directory_growth.h"
#include "fs/dirent_block.h"
#include "ondisk/validate.h"

namespace corral {

using ondisk::Dinode;
using ondisk::Dirent;
using ondisk::Leaf;

namespace {

/// What every change of a directory's names does to its dinode, and to the leaf's own time.
void note_change(Transaction& transaction, const LockedInode& directory, Block& block, WallTime now, int names,
                 int subdirectories) {
  auto& dinode = directory.modify(transaction);
  dinode.entries = dinode.entries + static_cast<std::uint32_t>(names);
  dinode.nlink = dinode.nlink + static_cast<std::uint32_t>(subdirectories);
  dinode.mtime = static_cast<std::uint64_t>(now.seconds);
  dinode.mtime_nanoseconds = now.nanoseconds;
  dinode.ctime = dinode.mtime;
  dinode.ctime_nanoseconds = now.nanoseconds;
  if (block.number() == directory.address() || names == 0) return;
  auto& leaf = transaction.modify_as<Leaf>(block);
  leaf.seconds = dinode.mtime;
  leaf.nanoseconds = now.nanoseconds;
}

int subdirectories_of(const DirectoryEntry& entry) {
  return entry.type == DT_DIR ? 1 : 0;
}

}  // namespace

Directories::Insertion::Insertion() = default;
Directories::Insertion::Insertion(Insertion&&) noexcept = default;
Directories::Insertion& Directories::Insertion::operator=(Insertion&&) noexcept = default;
Directories::Insertion::~Insertion() = default;

std::uint32_t Directories::Insertion::new_blocks() const {
  return growth_ ? growth_->new_blocks() : 0;
}

std::uint32_t Directories::Insertion::log_blocks() const {
  return growth_ ? growth_->log_blocks() : 2;
}

Task<Result<DirectoryEntry>> Directories::lookup(const LockedInode& directory, std::string_view name) {
  CO_TRY(Location location, co_await find(directory, HashedName(name)));
  co_return location.entry;
}

Task<Result<Directories::Location>> Directories::locate(const LockedInode& directory, std::string_view name) {
  return find(directory, HashedName(name));
}

Task<Result<Directories::Location>> Directories::find(const LockedInode& directory, HashedName name) {
  if (!directory.is_hashed_directory()) {
    CO_TRY(const Dirent* dirent, in_directory(directory, find_dirent(directory.bytes(), directory.address(), name)));
    if (dirent == nullptr) co_return fail(ENOENT);
    co_return Location{entry_of(*dirent), BlockRef(&directory.block())};
  }
  const std::uint32_t index = DirectoryTable::index_of(directory, name.hash);
  CO_TRY(TablePiece piece, co_await table_.piece_at(directory, index));
  CO_TRY(BlockNo address, table_.leaf_at(directory, piece, index));
  ChainGuard guard;
  while (address) {
    CO_TRY(BlockRef block, co_await table_.read_leaf(directory, address));
    CO_TRY(const Dirent* dirent, in_directory(directory, find_dirent(block->bytes(), address, name)));
    if (dirent != nullptr) co_return Location{entry_of(*dirent), std::move(block)};
    if (!guard.visit(address)) co_return table_.circular_chain(directory, address);
    address = BlockNo(block->as<Leaf>().next);
  }
  co_return fail(ENOENT);
}

Task<Result<Directories::Insertion>> Directories::prepare_insert(const LockedInode& directory, std::string_view name) {
  if (name.size() > ondisk::kNameMaxBytes) co_return fail(ENAMETOOLONG);
  if (!ondisk::is_valid_name(name)) co_return fail(EINVAL);
  if (directory.dinode().entries == std::numeric_limits<std::uint32_t>::max()) co_return fail(ENOSPC);
  const HashedName hashed(name);
  if (directory.is_hashed_directory()) co_return co_await prepare_insert_hashed(directory, hashed);

  CO_TRY(DirentScan scan, in_directory(directory, scan_dirents(directory.bytes(), directory.address(), hashed)));
  if (scan.found != 0) co_return fail(EEXIST);
  Insertion insertion;
  if (scan.has_room) {
    insertion.block_ = BlockRef(&directory.block());
  } else {
    CO_TRY(DirectoryGrowth growth,
           co_await DirectoryGrowth::prepare_stuffed(volume_, tree_, table_, directory, hashed));
    insertion.growth_ = std::make_unique<DirectoryGrowth>(std::move(growth));
  }
  co_return insertion;
}

Task<Result<Directories::Insertion>> Directories::prepare_insert_hashed(const LockedInode& directory, HashedName name) {
  const std::uint32_t index = DirectoryTable::index_of(directory, name.hash);
  CO_TRY(TablePiece piece, co_await table_.piece_at(directory, index));
  CO_TRY(BlockNo address, table_.leaf_at(directory, piece, index));
  Insertion insertion;
  BlockRef first;
  BlockRef last;
  ChainGuard guard;
  std::uint32_t length = 0;
  while (address) {
    CO_TRY(last, co_await table_.read_leaf(directory, address));
    if (!first) first = last;
    CO_TRY(DirentScan scan, in_directory(directory, scan_dirents(last->bytes(), address, name)));
    if (scan.found != 0) co_return fail(EEXIST);
    if (scan.has_room && !insertion.block_) insertion.block_ = last;
    if (!guard.visit(address)) co_return table_.circular_chain(directory, address);
    ++length;
    address = BlockNo(last->as<Leaf>().next);
  }
  if (!insertion.block_) {
    CO_TRY(DirectoryGrowth growth, co_await DirectoryGrowth::prepare_hashed(tree_, table_, directory, name,
                                                                            std::move(first), std::move(last), length));
    insertion.growth_ = std::make_unique<DirectoryGrowth>(std::move(growth));
  }
  co_return insertion;
}

Task<Result<>> Directories::insert(Transaction& transaction, Allotment* allotment, const LockedInode& directory,
                                   Insertion insertion, std::string_view name, DirectoryEntry entry) {
  const HashedName hashed(name);
  BlockRef block = std::move(insertion.block_);
  if (insertion.growth_) {
    CHECK_INVARIANT(allotment != nullptr);
    CO_TRY(block,
           co_await insertion.growth_->carry_out(volume_, table_, transaction, *allotment, directory, hashed.hash));
  }
  insert_dirent(transaction.modify(*block), hashed, entry);
  note_change(transaction, directory, *block, volume_.clock.wall(), 1, subdirectories_of(entry));
  co_return {};
}

void Directories::remove(Transaction& transaction, const LockedInode& directory, const Location& location,
                         std::string_view name) {
  remove_dirent(transaction.modify(*location.block), HashedName(name));
  note_change(transaction, directory, *location.block, volume_.clock.wall(), -1, -subdirectories_of(location.entry));
}

void Directories::replace(Transaction& transaction, const LockedInode& directory, const Location& location,
                          std::string_view name, const DirectoryEntry& entry) {
  replace_dirent(transaction.modify(*location.block), HashedName(name), entry);
  note_change(transaction, directory, *location.block, volume_.clock.wall(), 0,
              subdirectories_of(entry) - subdirectories_of(location.entry));
}

Task<Result<>> Directories::remove(Transaction& transaction, const LockedInode& directory, std::string_view name) {
  CO_TRY(Location location, co_await locate(directory, name));
  remove(transaction, directory, location, name);
  co_return {};
}

Task<Result<>> Directories::replace(Transaction& transaction, const LockedInode& directory, std::string_view name,
                                    DirectoryEntry entry) {
  CO_TRY(Location location, co_await locate(directory, name));
  replace(transaction, directory, location, name, entry);
  co_return {};
}

bool Directories::is_empty(const LockedInode& directory) {
  return directory.dinode().entries == 2;
}

void Directories::initialize(std::span<std::byte> dinode_block, DirectoryEntry self, DirectoryEntry parent) {
  initialize_stuffed_dirents(dinode_block);
  insert_dirent(dinode_block, HashedName("."), self);
  insert_dirent(dinode_block, HashedName(".."), parent);
  auto& dinode = ondisk::view<Dinode>(dinode_block);
  dinode.entries = 2;
  dinode.size = dinode_block.size() - sizeof(Dinode);
  dinode.nlink = 2;
  dinode.flags = dinode.flags | ondisk::kDinodeJournaledData;
  dinode.payload_format = ondisk::kFormatDirent;
  dinode.height = 0;
  dinode.depth = 0;
}

}  // namespace corral
