#include "ondisk/ea_walker.h"

#include <utility>

#include "ondisk/validate.h"

namespace corral::ondisk {

EaWalker::EaWalker(std::span<const std::byte> block, BlockNo address, std::uint32_t fs_format)
    : block_(block), address_(address), fs_format_(fs_format) {}

Result<std::optional<EaRecord>> EaWalker::next() {
  if (done_) return std::nullopt;
  done_ = true;
  const std::size_t place = next_;
  if (place == sizeof(MetaHeader)) TRY_VOID(check_meta_header(block_, address_, MetaType::ea_block));
  if (block_.size() - place < sizeof(ExtendedAttributeHeader))
    return fail_corrupt("attribute block {}: {} bytes left at byte {}, too few for a record", address_.value,
                        block_.size() - place, place);
  const auto& header = view<ExtendedAttributeHeader>(block_, place);
  TRY_VOID(check_extent(header, place));
  TRY(auto record, decode(header, place));
  next_ = place + record.record_bytes;
  done_ = record.last;
  return record;
}

Result<> EaWalker::check_extent(const ExtendedAttributeHeader& header, std::size_t place) const {
  const std::size_t record = header.record_length;
  const std::size_t left = block_.size() - place;
  if (record < sizeof(ExtendedAttributeHeader) || record % 8 != 0 || record > left)
    return fail_corrupt("attribute block {}: record at byte {} has length {}, expected a multiple of 8 from {} to {}",
                        address_.value, place, record, sizeof(ExtendedAttributeHeader), left);
  if ((header.flags & kEaFlagLast) != 0 && record != left)
    return fail_corrupt("attribute block {}: last record at byte {} has length {}, expected {} to the block's end",
                        address_.value, place, record, left);
  const auto most = std::to_underlying(fs_format_ == kFilesystemFormatMin ? EaType::security : EaType::trusted);
  if (header.type > most)
    return fail_corrupt("attribute block {}: record at byte {} has type {}, expected at most {}", address_.value, place,
                        header.type, most);
  return {};
}

Result<EaRecord> EaWalker::decode(const ExtendedAttributeHeader& header, std::size_t place) const {
  EaRecord record{.offset_bytes = place,
                  .record_bytes = header.record_length,
                  .last = (header.flags & kEaFlagLast) != 0,
                  .type = static_cast<EaType>(header.type),
                  .name = {},
                  .value_bytes = 0,
                  .value = {},
                  .pointers = {}};
  if (record.type == EaType::unused) return record;

  const std::size_t name_bytes = header.name_length;
  const std::size_t value_bytes = header.data_length;
  const std::size_t pointers = header.num_ptrs;
  const std::size_t bytes_per_pointer = block_.size() - sizeof(MetaHeader);
  if (name_bytes == 0)
    return fail_corrupt("attribute block {}: record at byte {} has an empty name", address_.value, place);
  if (value_bytes > kEaDataMaxBytes)
    return fail_corrupt("attribute block {}: record at byte {} has a value of {} bytes, expected at most {}",
                        address_.value, place, value_bytes, kEaDataMaxBytes);
  const std::size_t needed =
      pointers == 0 ? ea_inline_bytes(name_bytes, value_bytes) : ea_pointer_bytes(name_bytes, pointers);
  if (needed > record.record_bytes)
    return fail_corrupt("attribute block {}: record at byte {} has length {}, but its contents need {}", address_.value,
                        place, record.record_bytes, needed);
  const std::size_t wanted = (value_bytes + bytes_per_pointer - 1) / bytes_per_pointer;
  if (pointers != 0 && (wanted == 0 || wanted > pointers))
    return fail_corrupt("attribute block {}: record at byte {} has {} pointers for a value of {} bytes", address_.value,
                        place, pointers, value_bytes);

  const std::size_t name_at = place + sizeof(ExtendedAttributeHeader);
  record.name = {reinterpret_cast<const char*>(block_.data()) + name_at, name_bytes};
  record.value_bytes = static_cast<std::uint32_t>(value_bytes);
  if (pointers == 0) {
    record.value = block_.subspan(name_at + name_bytes, value_bytes);
  } else {
    const std::size_t pointers_at = name_at + ((name_bytes + 7) & ~std::size_t{7});
    record.pointers = std::span(&view<be64>(block_, pointers_at), wanted);
  }
  return record;
}

}  // namespace corral::ondisk
