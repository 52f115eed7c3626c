/// The fields of GFS2's structures by the names that linux/gfs2_ondisk.h gives them, for programs that show them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ondisk/layout.h"

namespace corral::ondisk {

enum class FieldKind : std::uint8_t {
  number,  ///< big-endian, unsigned
  signed_number,
  flags,  ///< shown in hexadecimal
  mode,   ///< shown in octal
  text,   ///< zero-terminated
  uuid,
};

struct Field {
  std::string_view name;
  std::uint16_t offset;  ///< bytes from the structure's begin
  std::uint16_t bytes;
  FieldKind kind = FieldKind::number;
};

/// Of the structure that begins a block of that type, MetaHeader's included; just those for a type without more.
std::span<const Field> fields_of(MetaType type);
std::span<const Field> rindex_fields();  ///< struct gfs2_rindex

/// The field's value as text: decimal, hexadecimal for flags, octal for modes. The structure lies within `bytes`.
std::string describe_field(const Field& field, std::span<const std::byte> bytes);
/// As RFC 4122 writes it; 16 bytes.
std::string describe_uuid(std::span<const std::byte> bytes);
/// The value of a number.
std::uint64_t field_number(const Field& field, std::span<const std::byte> bytes);
/// Such as "dinode", or "type 77".
std::string describe_type(MetaType type);

}  // namespace corral::ondisk
