#include "tools/corral/block_details.h"

#include <array>

#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/bitmap.h"
#include "ondisk/dirent_walker.h"
#include "ondisk/ea_walker.h"
#include "ondisk/layout.h"
#include "ondisk/validate.h"

namespace corral {

using ondisk::be64;
using ondisk::MetaType;
using ondisk::view;

namespace {

DumpJson numbers_behind(std::span<const std::byte> block, std::size_t offset, std::size_t count, std::size_t step) {
  DumpJson numbers = DumpJson::array();
  for (std::size_t i = 0; i < count && offset + (i + 1) * step * sizeof(be64) <= block.size(); ++i)
    numbers.push_back(view<be64>(block, offset + i * step * sizeof(be64)).value());
  return numbers;
}

/// Which blocks a descriptor's log blocks are the states of, or which it revokes: gfs2_log_descriptor.
void add_descriptor(std::span<const std::byte> block, DumpJson& dump) {
  constexpr std::size_t kBehind = sizeof(ondisk::LogDescriptor);
  const auto& descriptor = view<ondisk::LogDescriptor>(block);
  switch (static_cast<ondisk::LogDescriptorType>(descriptor.type.value())) {
    case ondisk::LogDescriptorType::metadata:
      dump["blocks"] = numbers_behind(block, kBehind, descriptor.data1, 1);
      break;
    case ondisk::LogDescriptorType::journaled_data:
      dump["blocks"] = numbers_behind(block, kBehind, descriptor.data1, 2);
      break;
    case ondisk::LogDescriptorType::revoke:
      dump["revokes"] = numbers_behind(block, kBehind, descriptor.data1, 1);
      break;
  }
}

/// Those that are not 0, with their places.
DumpJson pointers_of(std::span<const std::byte> block, std::size_t header_bytes) {
  DumpJson list = DumpJson::array();
  const auto all = ondisk::pointers(block, header_bytes);
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i] != 0) list.push_back({{"index", i}, {"block", all[i].value()}});
  return list;
}

DumpJson changes_of(std::span<const std::byte> block, BlockNo number) {
  DumpJson list = DumpJson::array();
  const auto changes = ondisk::quota_changes(block, number);
  if (!changes) return list;
  for (const ondisk::QuotaChange& change : *changes)
    if (change.change != 0 || change.id != 0)
      list.push_back({{"qc_change", static_cast<std::int64_t>(change.change.value())},
                      {"of", (change.flags & ondisk::kQuotaChangeUser) != 0 ? "user" : "group"},
                      {"qc_id", change.id.value()}});
  return list;
}

void add_states(std::span<const std::byte> block, std::uint64_t place, DumpJson& dump) {
  const StateCounts counts = BitmapView(block.subspan(ondisk::bitmap_offset(place))).counts();
  dump["states"] = {
      {"free", counts.free}, {"used", counts.used}, {"unlinked", counts.unlinked}, {"dinodes", counts.dinodes}};
}

void add_dinode(std::span<const std::byte> block, BlockNo number, DumpJson& dump) {
  const auto& dinode = view<ondisk::Dinode>(block);
  const bool hashed = (dinode.flags & ondisk::kDinodeHashedDirectory) != 0;
  if (dinode.height > 0 || hashed)
    dump["pointers"] = pointers_of(block, sizeof(ondisk::Dinode));
  else if (S_ISDIR(dinode.mode))
    dump["entries"] = dirents_of(block, number);
}

}  // namespace

/// The dirents of a leaf or dinode, up to the first that is damaged.
DumpJson dirents_of(std::span<const std::byte> block, BlockNo number) {
  DumpJson entries = DumpJson::array();
  ondisk::DirentWalker walker(block, number);
  for (;;) {
    auto dirent = walker.next();
    if (!dirent) entries.push_back({{"damage", dirent.error().describe()}});
    if (!dirent || *dirent == nullptr) return entries;
    const ondisk::Dirent& one = **dirent;
    if (ondisk::is_unused(one)) continue;
    entries.push_back({{"name", std::string(ondisk::name_of(one))},
                       {"no_formal_ino", one.inum.formal_ino.value()},
                       {"no_addr", one.inum.addr.value()},
                       {"de_hash", fmt::format("{:#010x}", one.hash.value())},
                       {"de_rec_len", one.record_length.value()},
                       {"de_name_len", one.name_length.value()},
                       {"de_type", one.type.value()}});
  }
}

DumpJson attributes_of(std::span<const std::byte> block, BlockNo number, std::uint32_t fs_format) {
  static constexpr std::array<const char*, 5> kTypes{"unused", "user", "system", "security", "trusted"};
  DumpJson list = DumpJson::array();
  ondisk::EaWalker walker(block, number, fs_format);
  for (;;) {
    const auto record = walker.next();
    if (!record) list.push_back({{"damage", record.error().describe()}});
    if (!record || !*record) return list;
    const ondisk::EaRecord& one = **record;
    if (one.type == ondisk::EaType::unused) continue;
    DumpJson dump = {{"type", kTypes.at(static_cast<std::size_t>(one.type))},
                     {"name", std::string(one.name)},
                     {"ea_data_len", one.value_bytes},
                     {"ea_rec_len", one.record_bytes}};
    if (!one.is_inline()) dump["blocks"] = DumpJson::array();
    for (const be64& pointer : one.pointers)
      dump["blocks"].push_back(pointer.value());
    list.push_back(std::move(dump));
  }
}

void add_details(std::span<const std::byte> block, BlockNo number, std::uint32_t fs_format, DumpJson& dump) {
  switch (view<ondisk::MetaHeader>(block).meta_type()) {
    case MetaType::resource_group:
      return add_states(block, 0, dump);
    case MetaType::resource_group_bitmap:
      return add_states(block, 1, dump);
    case MetaType::dinode:
      return add_dinode(block, number, dump);
    case MetaType::indirect:
    case MetaType::journaled_data:
      dump["pointers"] = pointers_of(block, sizeof(ondisk::MetaHeader));
      return;
    case MetaType::leaf:
      dump["entries"] = dirents_of(block, number);
      return;
    case MetaType::log_descriptor:
      return add_descriptor(block, dump);
    case MetaType::ea_block:
      dump["attributes"] = attributes_of(block, number, fs_format);
      return;
    case MetaType::quota_change:
      dump["changes"] = changes_of(block, number);
      return;
    default:
      return;
  }
}

}  // namespace corral
