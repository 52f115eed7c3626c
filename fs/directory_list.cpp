// Listing a directory: see fs/directory_cookie.h for the order.
#include <algorithm>
#include <vector>

#include "fs/chain_guard.h"
#include "fs/directory.h"
#include "fs/dirent_block.h"
#include "ondisk/validate.h"

namespace corral {

using ondisk::Dirent;
using ondisk::Leaf;

namespace {

/// Leaves read at a time when a listing comes to one that is not in memory. They lie all over the device.
constexpr std::size_t kReadAheadLeaves = 64;

/// The entries of one block, or of one chain, that a listing wants; they point into blocks held meanwhile.
class Gathered {
 public:
  explicit Gathered(DirectoryCookie cookie) : cookie_(cookie) {}

  Result<> add(BlockRef block, BlockNo address) {
    Result<> names;
    TRY_VOID(for_each_dirent(block->bytes(), address, [&](const Dirent& dirent) {
      if (dirent.hash < hash_of_cookie(cookie_)) return;
      const std::string_view name = ondisk::name_of(dirent);
      if (!ondisk::is_valid_name(name))
        names = fail_corrupt("directory block {}: the dirent of inode {} has a name with '/' or a zero byte",
                             address.value, dirent.inum.addr.value());
      entries_.push_back({place_of(dirent.hash, name), &dirent});
    }));
    blocks_.push_back(std::move(block));
    return names;
  }

  /// Gives the entries in order; false if the sink does not want more.
  bool give(const Directories::Sink& sink) {
    std::ranges::sort(entries_, [](const Item& a, const Item& b) {
      if (a.place != b.place) return a.place < b.place;
      return ondisk::name_of(*a.dirent) < ondisk::name_of(*b.dirent);
    });
    std::uint32_t twins = 0;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Item& item = entries_[i];
      twins = i > 0 && entries_[i - 1].place == item.place ? twins + 1 : 0;
      const DirectoryCookie place = place_of_twin(item.place, twins);
      if (place < cookie_) continue;
      if (!sink(ondisk::name_of(*item.dirent), entry_of(*item.dirent), place + 1)) return false;
    }
    return true;
  }

  void clear() {
    entries_.clear();
    blocks_.clear();
  }

 private:
  struct Item {
    DirectoryCookie place;
    const Dirent* dirent;
  };
  DirectoryCookie cookie_;
  std::vector<Item> entries_;
  std::vector<BlockRef> blocks_;
};

}  // namespace

Task<Result<>> Directories::list(const LockedInode& directory, DirectoryCookie cookie, const Sink& sink) {
  if (cookie > kLastCookie) co_return {};
  if (directory.is_hashed_directory()) co_return co_await list_hashed(directory, cookie, sink);
  Gathered gathered(cookie);
  CO_TRY_VOID(in_directory(directory, gathered.add(BlockRef(&directory.block()), directory.address())));
  gathered.give(sink);
  co_return {};
}

Task<Result<>> Directories::list_hashed(const LockedInode& directory, DirectoryCookie cookie, const Sink& sink) {
  Gathered gathered(cookie);
  TablePiece piece;
  const std::uint32_t end = DirectoryTable::size(directory);
  std::uint32_t index = DirectoryTable::index_of(directory, hash_of_cookie(cookie));
  while (index < end) {
    if (!piece.covers(index)) {
      CO_TRY(piece, co_await table_.piece_at(directory, index));
    }
    CO_TRY(BlockNo address, table_.leaf_at(directory, piece, index));
    if (!volume_.cache.find(directory.owner(), address)) table_.read_ahead(directory, piece, index, kReadAheadLeaves);

    gathered.clear();
    LeafSpan span;
    ChainGuard guard;
    while (address) {
      CO_TRY(BlockRef block, co_await table_.read_leaf(directory, address));
      const auto& leaf = block->as<Leaf>();
      if (span.count == 0) span = leaf_span(index, leaf.depth, directory.dinode().depth);
      if (!guard.visit(address)) co_return table_.circular_chain(directory, address);
      const BlockNo next(leaf.next);
      CO_TRY_VOID(in_directory(directory, gathered.add(std::move(block), address)));
      address = next;
    }
    if (!gathered.give(sink)) co_return {};
    index = span.end();
  }
  co_return {};
}

}  // namespace corral
