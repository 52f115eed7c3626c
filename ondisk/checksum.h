/// The checksums of a GFS2 volume.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "ondisk/layout.h"

namespace corral::ondisk {

/// Directory hash: zlib CRC-32 of the name.
std::uint32_t name_hash(std::string_view name);
/// rg_crc of a resource group's header.
std::uint32_t rgrp_crc(const ResourceGroup& group);
/// lh_hash of a log header block (its first 48 bytes).
std::uint32_t log_header_hash(const LogHeader& header);
/// lh_crc: CRC-32C, not inverted at last, of the whole block from lh_nsec on.
std::uint32_t log_header_crc(std::span<const std::byte> block);
/// CRC-32C (Castagnoli) in its usual form: register all ones at first, inverted at last.
std::uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace corral::ondisk
