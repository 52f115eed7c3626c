/// What stands in a block of metadata behind its fields, by the block's type: names, pointers, attributes, logged
/// blocks, changes of quotas, states of blocks.
#pragma once

#include <cstdint>
#include <span>

#include <nlohmann/json.hpp>

#include "base/strong.h"

namespace corral {

using DumpJson = nlohmann::ordered_json;

/// Adds lists to `dump`: "entries" of a leaf or a stuffed directory, "pointers" of an indirect block, a dinode with a
/// tree or a directory's table (those that are not 0, with their places), "attributes", "blocks" or "revokes" of a log
/// descriptor, "changes" of quotas; of a resource group's blocks how many blocks its part of the bitmap has in each
/// state. A list ends with the damage where there is one. `block` begins with a meta header.
void add_details(std::span<const std::byte> block, BlockNo number, std::uint32_t fs_format, DumpJson& dump);

/// The dirents of a leaf or dinode, up to the first that is damaged.
DumpJson dirents_of(std::span<const std::byte> block, BlockNo number);
/// The extended attributes of a block of them, without their values.
DumpJson attributes_of(std::span<const std::byte> block, BlockNo number, std::uint32_t fs_format);

}  // namespace corral
