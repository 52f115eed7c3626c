#include "fs/extended_attributes.h"

#include <algorithm>
#include <array>
#include <utility>

#include "fs/attribute_fork.h"

namespace corral {

using namespace ondisk;

namespace {
constexpr std::array kPrefixes{
    std::pair{EaType::user, std::string_view("user.")},
    std::pair{EaType::system, std::string_view("system.")},
    std::pair{EaType::security, std::string_view("security.")},
    std::pair{EaType::trusted, std::string_view("trusted.")},
};
/// Value blocks freed in one transaction, about.
constexpr std::size_t kFreedTogether = 64;

/// How the attributes of a new inode are stored so that one block holds them all: the largest values move to blocks of
/// their own until the rest fits.
Result<std::vector<ValuePlacement>> place_together(const Geometry& geometry,
                                                   std::span<const ExtendedAttributes::Initial> attributes) {
  std::vector<ValuePlacement> placements;
  std::size_t bytes = 0;
  for (const auto& attribute : attributes) {
    placements.push_back(ValuePlacement::choose(geometry, attribute.name.name.size(), attribute.value.size()));
    bytes += placements.back().record_bytes;
  }
  while (bytes > attribute_room_bytes(geometry)) {
    auto largest = std::max_element(placements.begin(), placements.end(), [](auto& a, auto& b) {
      return std::pair(a.blocks == 0, a.record_bytes) < std::pair(b.blocks == 0, b.record_bytes);
    });
    if (largest->blocks != 0) return fail(ENOSPC);
    const auto& attribute = attributes[static_cast<std::size_t>(largest - placements.begin())];
    bytes -= largest->record_bytes;
    *largest = ValuePlacement::in_blocks(geometry, attribute.name.name.size(), attribute.value.size());
    bytes += largest->record_bytes;
  }
  return placements;
}
}  // namespace

Result<AttributeName> AttributeName::parse(std::string_view full) {
  for (const auto& [type, prefix] : kPrefixes) {
    if (!full.starts_with(prefix)) continue;
    if (full.size() == prefix.size()) return fail(EINVAL);
    return AttributeName{type, full.substr(prefix.size())};
  }
  return fail(EOPNOTSUPP);
}

std::string AttributeName::full() const {
  for (const auto& [known, prefix] : kPrefixes)
    if (known == type) return std::string(prefix) + std::string(name);
  return std::string(name);
}

ExtendedAttributes::ExtendedAttributes(Volume& volume, Allocator& allocator, std::uint32_t fs_format)
    : volume_(volume), allocator_(allocator), fs_format_(fs_format) {}

Result<> ExtendedAttributes::check_supported(AttributeName name) const {
  if (name.type == EaType::trusted && fs_format_ == kFilesystemFormatMin) return fail(EOPNOTSUPP);
  return {};
}

Result<> ExtendedAttributes::check_changeable(const LockedInode& inode, AttributeName name) const {
  TRY_VOID(volume_.check_writable());
  TRY_VOID(check_supported(name));
  if ((inode.dinode().flags & (kDinodeImmutable | kDinodeAppendOnly)) != 0) return fail(EPERM);
  return {};
}

Task<Result<std::vector<std::byte>>> ExtendedAttributes::get(const LockedInode& inode, AttributeName name) {
  CO_TRY_VOID(check_supported(name));
  if (inode.dinode().eattr == 0) co_return fail(ENODATA);
  CO_TRY(AttributeFork fork, co_await AttributeFork::read(volume_, fs_format_, inode));
  CO_TRY(std::optional<FoundAttribute> found, fork.find(name));
  if (!found) co_return fail(ENODATA);
  co_return co_await fork.value(*found);
}

Task<Result<std::vector<std::string>>> ExtendedAttributes::list(const LockedInode& inode) {
  CO_TRY(AttributeFork fork, co_await AttributeFork::read(volume_, fs_format_, inode));
  std::vector<std::string> names;
  for (std::size_t block = 0; block < fork.blocks().size(); ++block) {
    CO_TRY(std::vector<StoredAttribute> attributes, fork.attributes_in(block));
    for (const StoredAttribute& attribute : attributes)
      names.push_back(AttributeName{attribute.type, attribute.name}.full());
  }
  co_return names;
}

Task<Result<>> ExtendedAttributes::set(const LockedInode& inode, AttributeName name, std::span<const std::byte> value,
                                       SetMode mode) {
  CO_TRY_VOID(check_changeable(inode, name));
  if (name.name.empty()) co_return fail(EINVAL);
  if (name.name.size() > kEaNameMaxBytes) co_return fail(ERANGE);
  if (value.size() > kEaDataMaxBytes) co_return fail(E2BIG);
  CO_TRY(AttributeFork fork, co_await AttributeFork::read(volume_, fs_format_, inode));
  CO_TRY(std::optional<FoundAttribute> old, fork.find(name));
  if (old && mode == SetMode::create) co_return fail(EEXIST);
  if (!old && mode == SetMode::replace) co_return fail(ENODATA);
  AttributeUpdate update(volume_, allocator_, inode, fork);
  co_return co_await update.put(name, value, std::move(old));
}

Task<Result<>> ExtendedAttributes::remove(const LockedInode& inode, AttributeName name) {
  CO_TRY_VOID(check_changeable(inode, name));
  CO_TRY(AttributeFork fork, co_await AttributeFork::read(volume_, fs_format_, inode));
  CO_TRY(std::optional<FoundAttribute> old, fork.find(name));
  if (!old) co_return fail(ENODATA);
  AttributeUpdate update(volume_, allocator_, inode, fork);
  co_return co_await update.remove(*std::move(old));
}

Result<std::uint32_t> ExtendedAttributes::initial_blocks(std::span<const Initial> attributes) const {
  if (attributes.empty()) return 0;
  TRY(std::vector<ValuePlacement> placements, place_together(volume_.geometry, attributes));
  std::uint32_t blocks = 1;
  for (const ValuePlacement& placement : placements)
    blocks += placement.blocks;
  return blocks;
}

Result<> ExtendedAttributes::set_initial(Transaction& transaction, Allotment& allotment, const LockedInode& inode,
                                         std::span<const Initial> attributes) {
  if (attributes.empty()) return {};
  TRY(std::vector<ValuePlacement> placements, place_together(volume_.geometry, attributes));
  const std::size_t room = attribute_room_bytes(volume_.geometry);
  std::uint32_t taken = 0;
  auto take = [&]() -> Result<BlockRef> {
    TRY(Extent extent, allotment.take_blocks(transaction, 1));
    ++taken;
    return volume_.cache.create(inode.owner(), extent.start);
  };
  TRY(BlockRef block, take());
  std::vector<StoredAttribute> stored;
  for (std::size_t i = 0; i < attributes.size(); ++i) {
    const Initial& attribute = attributes[i];
    StoredAttribute record{.type = attribute.name.type,
                           .name = std::string(attribute.name.name),
                           .value_bytes = static_cast<std::uint32_t>(attribute.value.size()),
                           .value = {},
                           .blocks = {}};
    if (placements[i].blocks == 0) record.value = attribute.value;
    for (std::uint32_t part = 0; part < placements[i].blocks; ++part) {
      TRY(BlockRef holder, take());
      std::span<const std::byte> rest = std::span(attribute.value).subspan(part * room);
      write_value_block(transaction.modify(*holder), rest.first(std::min(room, rest.size())));
      record.blocks.push_back(holder->number());
    }
    stored.push_back(std::move(record));
  }
  transaction.modify_as<MetaHeader>(*block).set(MetaType::ea_block);
  write_attributes(transaction.modify(*block), stored);
  Dinode& dinode = inode.modify(transaction);
  dinode.eattr = block->number().value;
  dinode.blocks = dinode.blocks + taken;
  return {};
}

Task<Result<>> ExtendedAttributes::replace_in_place(Transaction& transaction, const LockedInode& inode,
                                                    AttributeName name, std::span<const std::byte> value) {
  CO_TRY(AttributeFork fork, co_await AttributeFork::read(volume_, fs_format_, inode));
  CO_TRY(std::optional<FoundAttribute> found, fork.find(name));
  if (!found) co_return fail(ENODATA);
  if (found->attribute.value_bytes != value.size() || found->attribute.blocks.size() > 1)
    co_return fail_corrupt("inode {}: attribute {} has {} bytes in {} blocks, expected {} in at most one",
                           inode.address().value, name.full(), found->attribute.value_bytes,
                           found->attribute.blocks.size(), value.size());
  if (!found->attribute.blocks.empty()) {
    CO_TRY(std::vector<BlockRef> holders, co_await fork.value_blocks(*found));
    write_value_block(transaction.modify(*holders[0]), value);
    co_return Result<>{};
  }
  CO_TRY(std::vector<StoredAttribute> attributes, fork.attributes_in(found->block));
  attributes[found->place].value.assign(value.begin(), value.end());
  write_attributes(transaction.modify(*fork.blocks()[found->block]), attributes);
  co_return Result<>{};
}

/// The blocks that hold values of the attributes in `block`; their attributes go with them.
Task<Result<>> ExtendedAttributes::free_value_blocks(const LockedInode& inode, BlockRef block) {
  for (;;) {
    CO_TRY(std::vector<StoredAttribute> left, read_attributes(block->bytes(), block->number(), fs_format_));
    std::vector<BlockNo> freed;
    std::erase_if(left, [&freed](const StoredAttribute& attribute) {
      if (attribute.blocks.empty() || freed.size() >= kFreedTogether) return false;
      freed.insert(freed.end(), attribute.blocks.begin(), attribute.blocks.end());
      return true;
    });
    if (freed.empty()) co_return Result<>{};
    CO_TRY(Release release, co_await allocator_.prepare_release(freed));
    CO_TRY(Transaction transaction,
           co_await volume_.journal->begin(
               {.blocks = 2 + release.log_blocks(), .revokes = static_cast<std::uint32_t>(freed.size())}));
    const Ownership owner = ownership_of(inode.dinode());
    for (BlockNo number : freed) {
      CO_TRY_VOID(release.free_blocks(transaction, {number, 1}, owner));
      transaction.free_block(number);
    }
    write_attributes(transaction.modify(*block), left);
    Dinode& dinode = inode.modify(transaction);
    dinode.blocks = dinode.blocks - freed.size();
  }
}

/// An attribute block (number `place` of the indirect block's list, if there is one), or the last one together with the
/// indirect block.
Task<Result<>> ExtendedAttributes::free_blocks(const LockedInode& inode, std::vector<BlockNo> blocks, BlockRef indirect,
                                               std::size_t place) {
  CO_TRY(Release release, co_await allocator_.prepare_release(blocks));
  CO_TRY(Transaction transaction,
         co_await volume_.journal->begin(
             {.blocks = 2 + release.log_blocks(), .revokes = static_cast<std::uint32_t>(blocks.size())}));
  const Ownership owner = ownership_of(inode.dinode());
  for (BlockNo number : blocks) {
    CO_TRY_VOID(release.free_blocks(transaction, {number, 1}, owner));
    transaction.free_block(number);
  }
  Dinode& dinode = inode.modify(transaction);
  dinode.blocks = dinode.blocks - blocks.size();
  if (indirect != nullptr && place != 0) {
    pointers(transaction.modify(*indirect), sizeof(MetaHeader))[place] = 0;
  } else {
    dinode.eattr = 0;
    dinode.flags = dinode.flags & ~kDinodeEaIndirect;
  }
  co_return Result<>{};
}

Task<Result<>> ExtendedAttributes::free_all(const LockedInode& inode) {
  CO_TRY(AttributeFork fork, co_await AttributeFork::read(volume_, fs_format_, inode));
  // From the last to the first, for the indirect block's list ends at the first null pointer.
  for (std::size_t place = fork.blocks().size(); place-- > 0;) {
    CO_TRY_VOID(co_await free_value_blocks(inode, fork.blocks()[place]));
    std::vector<BlockNo> freed{fork.blocks()[place]->number()};
    if (place == 0 && fork.indirect() != nullptr) freed.push_back(fork.indirect()->number());
    CO_TRY_VOID(co_await free_blocks(inode, std::move(freed), fork.indirect(), place));
  }
  if (fork.blocks().empty() && fork.indirect() != nullptr)
    co_return co_await free_blocks(inode, {fork.indirect()->number()}, nullptr, 0);
  co_return Result<>{};
}

}  // namespace corral
