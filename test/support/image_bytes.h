/// Metadata images in memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "tools/image/image_file.h"

namespace corral::image {

/// Reads the bytes, which outlive it, from their beginning.
inline ImageReader reader_of(const std::vector<std::byte>& bytes) {
  return ImageReader([&bytes, at = std::size_t{0}](std::span<std::byte> into) mutable -> Result<std::size_t> {
    const std::size_t part = std::min(into.size(), bytes.size() - at);
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), part, into.begin());
    at += part;
    return part;
  });
}

}  // namespace corral::image
