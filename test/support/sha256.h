/// SHA-256, for comparing file contents with lists of them.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace corral::test {

/// The hash of the bytes as 64 hexadecimal digits.
std::string sha256(std::span<const std::byte> bytes);

}  // namespace corral::test
