#include "ondisk/dirent_walker.h"

#include "base/check.h"

namespace corral::ondisk {

std::size_t first_dirent_bytes(std::span<const std::byte> block) {
  MetaType type = view<MetaHeader>(block).meta_type();
  CHECK_INVARIANT(type == MetaType::leaf || type == MetaType::dinode);
  return type == MetaType::leaf ? sizeof(Leaf) : sizeof(Dinode);
}

void remove_dirent(std::span<std::byte> block, std::size_t before, std::size_t offset) {
  auto& dirent = view<Dirent>(block, offset);
  if (before == 0) {
    CHECK_INVARIANT(offset == first_dirent_bytes(block));
    dirent.inum = InodeIdentity{};
    return;
  }
  auto& previous = view<Dirent>(block, before);
  CHECK_INVARIANT(before + previous.record_length == offset);
  previous.record_length = static_cast<std::uint16_t>(previous.record_length + dirent.record_length);
}

DirentWalker::DirentWalker(std::span<const std::byte> block, BlockNo address)
    : block_(block), address_(address), first_(first_dirent_bytes(block)), next_(first_) {}

Result<const Dirent*> DirentWalker::next() {
  if (next_ == block_.size()) return nullptr;
  const std::size_t left = block_.size() - next_;
  const std::size_t place = next_;
  next_ = block_.size();
  if (left < sizeof(Dirent))
    return fail_corrupt("directory block {}: {} bytes left at byte {}, too few for a dirent", address_.value, left,
                        place);
  previous_ = current_;
  current_ = place;
  const auto& dirent = view<Dirent>(block_, place);
  TRY_VOID(check(dirent));
  next_ = place + dirent.record_length;
  return &dirent;
}

Result<> DirentWalker::check(const Dirent& dirent) const {
  const std::size_t record = dirent.record_length;
  const std::size_t left = block_.size() - current_;
  if (record < sizeof(Dirent) || record % 8 != 0 || record > left)
    return fail_corrupt("directory block {}: dirent at byte {} has length {}, expected a multiple of 8 from {} to {}",
                        address_.value, current_, record, sizeof(Dirent), left);
  if (is_unused(dirent)) {
    if (current_ == first_) return {};
    return fail_corrupt("directory block {}: unused dirent at byte {}, expected only at byte {}", address_.value,
                        current_, first_);
  }
  const std::size_t most = std::min(record - sizeof(Dirent), kNameMaxBytes);
  if (dirent.name_length == 0 || dirent.name_length > most)
    return fail_corrupt("directory block {}: dirent at byte {} has a name of {} bytes, expected 1 to {}",
                        address_.value, current_, dirent.name_length.value(), most);
  return {};
}

}  // namespace corral::ondisk
