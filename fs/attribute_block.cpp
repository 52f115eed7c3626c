#include "fs/attribute_block.h"

#include <algorithm>
#include <cstring>

namespace corral {

namespace {
/// Calls `visit` for every record in use.
template <class Visit>
Result<> for_each_attribute(std::span<const std::byte> block, BlockNo address, std::uint32_t fs_format, Visit visit) {
  ondisk::EaWalker walker(block, address, fs_format);
  for (;;) {
    TRY(std::optional<ondisk::EaRecord> record, walker.next());
    if (!record) return {};
    if (record->type != ondisk::EaType::unused) visit(*record);
  }
}

void write_record(std::span<std::byte> record, const StoredAttribute& attribute) {
  auto& header = ondisk::view<ondisk::ExtendedAttributeHeader>(record);
  header.record_length = static_cast<std::uint32_t>(record.size());
  header.data_length = attribute.value_bytes;
  header.name_length = static_cast<std::uint8_t>(attribute.name.size());
  header.type = static_cast<std::uint8_t>(attribute.type);
  header.num_ptrs = static_cast<std::uint8_t>(attribute.blocks.size());
  std::byte* name = record.data() + sizeof(header);
  std::memcpy(name, attribute.name.data(), attribute.name.size());
  if (attribute.blocks.empty()) {
    std::copy(attribute.value.begin(), attribute.value.end(), name + attribute.name.size());
    return;
  }
  auto pointers = ondisk::pointers(record, sizeof(header) + (attribute.name.size() + 7) / 8 * 8);
  for (std::size_t i = 0; i < attribute.blocks.size(); ++i)
    pointers[i] = attribute.blocks[i].value;
}
}  // namespace

ValuePlacement ValuePlacement::in_blocks(const ondisk::Geometry& geometry, std::size_t name_bytes,
                                         std::size_t value_bytes) {
  std::size_t room = attribute_room_bytes(geometry);
  std::size_t blocks = std::max<std::size_t>(1, (value_bytes + room - 1) / room);
  return {.record_bytes = ondisk::ea_pointer_bytes(name_bytes, blocks), .blocks = static_cast<std::uint32_t>(blocks)};
}

ValuePlacement ValuePlacement::choose(const ondisk::Geometry& geometry, std::size_t name_bytes,
                                      std::size_t value_bytes) {
  std::size_t inside = ondisk::ea_inline_bytes(name_bytes, value_bytes);
  if (inside <= attribute_room_bytes(geometry)) return {.record_bytes = inside, .blocks = 0};
  return in_blocks(geometry, name_bytes, value_bytes);
}

Result<std::size_t> attribute_bytes(std::span<const std::byte> block, BlockNo address, std::uint32_t fs_format) {
  std::size_t bytes = 0;
  TRY_VOID(for_each_attribute(block, address, fs_format, [&bytes](const ondisk::EaRecord& record) {
    bytes += record.is_inline() ? ondisk::ea_inline_bytes(record.name.size(), record.value.size())
                                : ondisk::ea_pointer_bytes(record.name.size(), record.pointers.size());
  }));
  return bytes;
}

Result<std::vector<StoredAttribute>> read_attributes(std::span<const std::byte> block, BlockNo address,
                                                     std::uint32_t fs_format) {
  std::vector<StoredAttribute> attributes;
  TRY_VOID(for_each_attribute(block, address, fs_format, [&attributes](const ondisk::EaRecord& record) {
    StoredAttribute attribute{.type = record.type,
                              .name = std::string(record.name),
                              .value_bytes = record.value_bytes,
                              .value = {record.value.begin(), record.value.end()},
                              .blocks = {}};
    for (ondisk::be64 pointer : record.pointers)
      attribute.blocks.emplace_back(pointer);
    attributes.push_back(std::move(attribute));
  }));
  return attributes;
}

void write_attributes(std::span<std::byte> block, std::span<const StoredAttribute> attributes) {
  std::span<std::byte> room = block.subspan(sizeof(ondisk::MetaHeader));
  std::fill(room.begin(), room.end(), std::byte{0});
  if (attributes.empty()) {
    // The record is that of no attribute: type unused.
    auto& header = ondisk::view<ondisk::ExtendedAttributeHeader>(room);
    header.record_length = static_cast<std::uint32_t>(room.size());
    header.flags = ondisk::kEaFlagLast;
    return;
  }
  for (const StoredAttribute& attribute : attributes) {
    bool last = &attribute == &attributes.back();
    CHECK_INVARIANT(attribute.record_bytes() <= room.size());
    std::size_t length = last ? room.size() : attribute.record_bytes();
    write_record(room.first(length), attribute);
    if (last) ondisk::view<ondisk::ExtendedAttributeHeader>(room).flags = ondisk::kEaFlagLast;
    room = room.subspan(length);
  }
}

void write_value_block(std::span<std::byte> block, std::span<const std::byte> part) {
  ondisk::view<ondisk::MetaHeader>(block).set(ondisk::MetaType::ea_data);
  std::span<std::byte> room = block.subspan(sizeof(ondisk::MetaHeader));
  CHECK_INVARIANT(part.size() <= room.size());
  std::copy(part.begin(), part.end(), room.begin());
  std::fill(room.begin() + static_cast<std::ptrdiff_t>(part.size()), room.end(), std::byte{0});
}

}  // namespace corral
