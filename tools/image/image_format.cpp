#include "tools/image/image_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include <zstd.h>

#include "ondisk/checksum.h"
#include "ondisk/endian.h"
#include "ondisk/layout.h"

namespace corral::image {

using ondisk::be32;
using ondisk::be64;
using ondisk::view;

namespace {

constexpr std::array<char, 8> kMagic{'C', 'O', 'R', 'R', 'A', 'L', 'M', 'I'};
constexpr std::uint32_t kFrameMagic = 0x434D4946;  // "CMIF"
constexpr std::uint32_t kNodesLived = 1;
constexpr std::uint32_t kContentsKept = 2;
constexpr std::uint32_t kBlanked = 4;
/// Blocks of zeros and repeated structures shrink as well at a low level as at a high one.
constexpr int kCompressionLevel = 3;

struct HeaderBytes {
  std::array<char, 8> magic;
  be32 version;
  be32 crc;  ///< CRC-32C of the header with this field 0
  be32 block_size;
  be32 flags;
  be64 device_bytes;
  be64 saved_at_seconds;
  std::array<std::uint8_t, 24> reserved;
};
static_assert(sizeof(HeaderBytes) == kHeaderBytes);

struct FrameHeaderBytes {
  be32 magic;
  be32 crc;  ///< CRC-32C of this header with this field 0, and the payload
  be32 sequence;
  be32 blocks;
  be32 payload_bytes;
  be32 reserved;
};
static_assert(sizeof(FrameHeaderBytes) == kFrameHeaderBytes);

struct TotalsBytes {
  be64 blocks;
  be64 unreadable;
};

std::uint32_t crc_of_header(std::span<const std::byte> bytes) {
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  view<HeaderBytes>(copy).crc = 0u;
  return ondisk::crc32c(copy);
}

std::uint32_t crc_of_frame(std::span<const std::byte> header, std::span<const std::byte> payload) {
  std::vector<std::byte> all(header.begin(), header.end());
  view<FrameHeaderBytes>(all).crc = 0u;
  all.insert(all.end(), payload.begin(), payload.end());
  return ondisk::crc32c(all);
}

std::size_t uncompressed_bytes(std::uint32_t blocks, std::uint32_t block_size) {
  return blocks == 0 ? sizeof(TotalsBytes) : blocks * (sizeof(be64) + block_size);
}

std::vector<std::byte> frame_of(std::uint32_t sequence, std::uint32_t blocks, std::span<const std::byte> plain) {
  std::vector<std::byte> frame(kFrameHeaderBytes + ZSTD_compressBound(plain.size()));
  const std::size_t bytes = ZSTD_compress(frame.data() + kFrameHeaderBytes, frame.size() - kFrameHeaderBytes,
                                          plain.data(), plain.size(), kCompressionLevel);
  CHECK_INVARIANT(!ZSTD_isError(bytes));
  frame.resize(kFrameHeaderBytes + bytes);
  auto& header = view<FrameHeaderBytes>(frame);
  header.magic = kFrameMagic;
  header.sequence = sequence;
  header.blocks = blocks;
  header.payload_bytes = static_cast<std::uint32_t>(bytes);
  const std::span<const std::byte> all(frame);
  header.crc = crc_of_frame(all.first(kFrameHeaderBytes), all.subspan(kFrameHeaderBytes));
  return frame;
}

/// The payload as it was before it was compressed.
Result<std::vector<std::byte>> expand(std::span<const std::byte> header_bytes, std::span<const std::byte> payload,
                                      std::size_t expected_bytes) {
  const auto& header = view<FrameHeaderBytes>(header_bytes);
  const std::uint32_t crc = crc_of_frame(header_bytes, payload);
  if (header.crc != crc)
    return fail_corrupt("frame {}: checksum {:#x}, expected {:#x}", header.sequence.value(), header.crc.value(), crc);
  std::vector<std::byte> plain(expected_bytes);
  const std::size_t bytes = ZSTD_decompress(plain.data(), plain.size(), payload.data(), payload.size());
  if (ZSTD_isError(bytes) || bytes != expected_bytes)
    return fail_corrupt("frame {}: {}", header.sequence.value(),
                        ZSTD_isError(bytes) ? ZSTD_getErrorName(bytes) : "its contents end early");
  return plain;
}

}  // namespace

std::vector<std::byte> encode_header(const Header& header) {
  std::vector<std::byte> bytes(kHeaderBytes);
  auto& out = view<HeaderBytes>(bytes);
  out.magic = kMagic;
  out.version = kFormatVersion;
  out.block_size = header.block_size;
  out.flags = (header.nodes_lived ? kNodesLived : 0) | (header.contents_kept ? kContentsKept : 0) |
              (header.blanked ? kBlanked : 0);
  out.device_bytes = header.device_bytes;
  out.saved_at_seconds = header.saved_at_seconds;
  out.crc = crc_of_header(bytes);
  return bytes;
}

Result<Header> decode_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderBytes || view<HeaderBytes>(bytes).magic != kMagic)
    return fail(EINVAL, "no metadata image of corral image save");
  const auto& in = view<HeaderBytes>(bytes);
  if (in.crc != crc_of_header(bytes.first(kHeaderBytes)))
    return fail_corrupt("header: checksum {:#x}, expected {:#x}", in.crc.value(),
                        crc_of_header(bytes.first(kHeaderBytes)));
  if (in.version != kFormatVersion)
    return fail(EPROTONOSUPPORT, "format version {}, this program knows {}: use a newer one", in.version.value(),
                kFormatVersion);
  const std::uint32_t block_size = in.block_size;
  if (!std::has_single_bit(block_size) || block_size < ondisk::kBasicBlockBytes || block_size > 65536)
    return fail_corrupt("header: blocks of {} bytes", block_size);
  if (in.device_bytes < ondisk::kSuperblockOffsetBytes + block_size || in.device_bytes > std::uint64_t{1} << 62)
    return fail_corrupt("header: a volume of {} bytes", in.device_bytes.value());
  return Header{.block_size = block_size,
                .device_bytes = in.device_bytes,
                .saved_at_seconds = in.saved_at_seconds,
                .nodes_lived = (in.flags & kNodesLived) != 0,
                .contents_kept = (in.flags & kContentsKept) != 0,
                .blanked = (in.flags & kBlanked) != 0};
}

std::uint32_t frame_blocks(std::uint32_t block_size) {
  return static_cast<std::uint32_t>(kFrameContentBytes / block_size);
}

std::vector<std::byte> encode_frame(std::uint32_t sequence, std::span<const BlockNo> numbers,
                                    std::span<const std::byte> contents) {
  CHECK_INVARIANT(!numbers.empty() && contents.size() % numbers.size() == 0);
  std::vector<std::byte> plain(numbers.size() * sizeof(be64));
  for (std::size_t i = 0; i < numbers.size(); ++i)
    view<be64>(plain, i * sizeof(be64)) = numbers[i].value;
  plain.insert(plain.end(), contents.begin(), contents.end());
  return frame_of(sequence, static_cast<std::uint32_t>(numbers.size()), plain);
}

std::vector<std::byte> encode_last_frame(std::uint32_t sequence, Totals totals) {
  std::vector<std::byte> plain(sizeof(TotalsBytes));
  view<TotalsBytes>(plain).blocks = totals.blocks;
  view<TotalsBytes>(plain).unreadable = totals.unreadable;
  return frame_of(sequence, 0, plain);
}

Result<FrameHeader> decode_frame_header(std::span<const std::byte> bytes, std::uint32_t expected_sequence,
                                        std::uint32_t block_size) {
  const auto& in = view<FrameHeaderBytes>(bytes);
  if (in.magic != kFrameMagic || in.sequence != expected_sequence)
    return fail_corrupt("frame {} expected, and something else found", expected_sequence);
  if (in.blocks > frame_blocks(block_size) ||
      in.payload_bytes > ZSTD_compressBound(uncompressed_bytes(in.blocks, block_size)))
    return fail_corrupt("frame {}: {} blocks in {} bytes are too many", expected_sequence, in.blocks.value(),
                        in.payload_bytes.value());
  return FrameHeader{.sequence = in.sequence, .blocks = in.blocks, .payload_bytes = in.payload_bytes};
}

Result<Frame> decode_frame(std::span<const std::byte> header_bytes, std::span<const std::byte> payload,
                           const Header& header) {
  const auto& in = view<FrameHeaderBytes>(header_bytes);
  const std::uint32_t blocks = in.blocks;
  TRY(std::vector<std::byte> plain, expand(header_bytes, payload, uncompressed_bytes(blocks, header.block_size)));
  Frame frame;
  const std::uint64_t volume_blocks = header.device_bytes / header.block_size;
  for (std::size_t i = 0; i < blocks; ++i) {
    const BlockNo number(view<be64>(plain, i * sizeof(be64)));
    if (number.value >= volume_blocks)
      return fail_corrupt("frame {}: block {} lies outside the volume of {} blocks", in.sequence.value(), number.value,
                          volume_blocks);
    frame.numbers.push_back(number);
  }
  frame.contents.assign(plain.begin() + static_cast<std::ptrdiff_t>(blocks * sizeof(be64)), plain.end());
  return frame;
}

Result<Totals> decode_totals(std::span<const std::byte> header_bytes, std::span<const std::byte> payload) {
  TRY(const std::vector<std::byte> plain, expand(header_bytes, payload, sizeof(TotalsBytes)));
  const auto& in = view<TotalsBytes>(plain);
  return Totals{.blocks = in.blocks, .unreadable = in.unreadable};
}

}  // namespace corral::image
