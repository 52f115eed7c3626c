/// A metadata image's header and frames, byte for byte: section "Metadata image" of docs/SPEC.md. Pure: bytes in,
/// values or an error out. All integers are big-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/strong.h"

namespace corral::image {

constexpr std::size_t kHeaderBytes = 64;
constexpr std::size_t kFrameHeaderBytes = 24;
constexpr std::uint32_t kFormatVersion = 1;
/// Blocks of one frame hold at most so many bytes.
constexpr std::size_t kFrameContentBytes = 1 << 20;

struct Header {
  std::uint32_t block_size = 0;
  std::uint64_t device_bytes = 0;
  std::uint64_t saved_at_seconds = 0;  ///< since 1970
  bool nodes_lived = false;            ///< taken while nodes used the volume: it may not be consistent
  bool contents_kept = false;          ///< contents that stand in metadata are there
  bool blanked = false;                ///< symlink targets and values of extended attributes are not

  bool operator==(const Header&) const = default;
};

struct FrameHeader {
  std::uint32_t sequence = 0;
  std::uint32_t blocks = 0;  ///< 0: the last frame
  std::uint32_t payload_bytes = 0;
};

/// What the last frame says.
struct Totals {
  std::uint64_t blocks = 0;
  std::uint64_t unreadable = 0;  ///< that the device could not give
  bool operator==(const Totals&) const = default;
};

std::vector<std::byte> encode_header(const Header& header);
/// EINVAL where it is no image, EPROTONOSUPPORT for a newer version, corrupt where it is damaged.
Result<Header> decode_header(std::span<const std::byte> bytes);

/// Most blocks of a frame.
std::uint32_t frame_blocks(std::uint32_t block_size);

/// A frame with its header, checksummed; the payload is compressed here. `contents`: of `numbers`, one behind the
/// other.
std::vector<std::byte> encode_frame(std::uint32_t sequence, std::span<const BlockNo> numbers,
                                    std::span<const std::byte> contents);
std::vector<std::byte> encode_last_frame(std::uint32_t sequence, Totals totals);

/// Checks all that can be seen without the payload.
Result<FrameHeader> decode_frame_header(std::span<const std::byte> bytes, std::uint32_t expected_sequence,
                                        std::uint32_t block_size);

struct Frame {
  std::vector<BlockNo> numbers;
  std::vector<std::byte> contents;
};
/// `header_bytes`: as decode_frame_header() took them. Corrupt where the checksum or the contents are wrong.
Result<Frame> decode_frame(std::span<const std::byte> header_bytes, std::span<const std::byte> payload,
                           const Header& header);
Result<Totals> decode_totals(std::span<const std::byte> header_bytes, std::span<const std::byte> payload);

}  // namespace corral::image
