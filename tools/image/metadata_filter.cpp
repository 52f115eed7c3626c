#include "tools/image/metadata_filter.h"

#include <algorithm>
#include <vector>

#include <sys/stat.h>

#include "cluster/area_format.h"
#include "ondisk/checksum.h"
#include "ondisk/ea_walker.h"

namespace corral::image {

using namespace ondisk;

namespace {

/// Types of which a block may be that was found through a pointer.
bool is_type(std::uint32_t type) {
  return type >= static_cast<std::uint32_t>(MetaType::superblock) &&
         type <= static_cast<std::uint32_t>(MetaType::quota_change);
}

void fill(std::span<std::byte> bytes, char with) {
  std::ranges::fill(bytes, static_cast<std::byte>(with));
}

/// A dinode, even where a field of its header is damaged: what stands behind it is a user's all the same.
bool is_dinode(std::span<const std::byte> block, BlockNo number) {
  const auto& dinode = view<Dinode>(block);
  return dinode.header.meta_type() == MetaType::dinode || dinode.header.format == format_of(MetaType::dinode) ||
         dinode.num.addr == number.value;
}

/// A directory, even where its mode is damaged: its first name leads to itself.
bool holds_names(std::span<const std::byte> block) {
  const auto& dinode = view<Dinode>(block);
  const auto& dirent = view<Dirent>(block, sizeof(Dinode));
  const bool dot = dirent.inum.addr == dinode.num.addr && dirent.name_length == 1 && *dirent.name() == '.';
  return S_ISDIR(dinode.mode) || (dinode.flags & kDinodeHashedDirectory) != 0 || dot;
}

void filter_dinode(std::span<std::byte> block, bool system, FilterOptions options) {
  const auto& dinode = view<Dinode>(block);
  if (dinode.height != 0 || system || (dinode.flags & kDinodeSystem) != 0) return;
  const auto contents = block.subspan(sizeof(Dinode));
  if (!holds_names(block) && !S_ISLNK(dinode.mode) && !options.keep_contents) fill(contents, 0);
  if (S_ISLNK(dinode.mode) && options.blank)
    fill(contents.first(std::min<std::uint64_t>(dinode.size, contents.size())), 'x');
}

void blank_attributes(std::span<std::byte> block) {
  EaWalker walker(block, BlockNo(0), kFilesystemFormatMax);
  for (;;) {
    const auto record = walker.next();
    if (!record || !*record) return;
    const std::span<const std::byte> value = (*record)->value;
    if (!value.empty()) fill(block.subspan(static_cast<std::size_t>(value.data() - block.data()), value.size()), 0);
  }
}

}  // namespace

void filter_metadata(std::span<std::byte> block, BlockNo number, bool system, FilterOptions options) {
  if (is_dinode(block, number)) return filter_dinode(block, system, options);
  switch (view<MetaHeader>(block).meta_type()) {
    case MetaType::ea_block:
      if (options.blank) blank_attributes(block);
      break;
    case MetaType::ea_data:
      if (options.blank) fill(block.subspan(sizeof(MetaHeader)), 0);
      break;
    default:
      break;
  }
}

bool looks_like_metadata(std::span<const std::byte> block) {
  const auto& header = view<MetaHeader>(block);
  if (header.magic == kMagic) return true;
  return is_type(header.type) && header.format == format_of(header.meta_type());
}

void remove_secret(std::span<std::byte> block) {
  constexpr std::uint32_t kRecordMagic = 0x434F5241;
  constexpr std::uint32_t kHeaderType = 1;
  constexpr std::size_t kCrcOffset = 12;
  constexpr std::size_t kSecretOffset = 40;
  for (std::size_t at = 0; at + kBasicBlockBytes <= block.size(); at += kBasicBlockBytes) {
    if (view<be32>(block, at) != kRecordMagic || view<be32>(block, at + 4) != kHeaderType) continue;
    const auto secret = block.subspan(at + kSecretOffset, sizeof(cluster::Secret));
    // The record may go on in blocks that are not at hand. But a CRC is linear: what clearing some bits does to it
    // does not depend on the others.
    std::vector<std::byte> record(cluster::kRecordBytes);
    const std::uint32_t without = crc32c(record);
    std::ranges::copy(secret, record.begin() + kSecretOffset);
    auto& crc = view<be32>(block, at + kCrcOffset);
    crc = crc.value() ^ crc32c(record) ^ without;
    fill(secret, 0);
  }
}

}  // namespace corral::image
