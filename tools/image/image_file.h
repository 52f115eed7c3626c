/// Metadata images as files or pipes: written in one go, and read with every byte checked.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "tools/image/image_format.h"

namespace corral::image {

class ImageWriter {
 public:
  /// Takes the bytes of the image, in order.
  using Sink = std::function<Result<>(std::span<const std::byte>)>;
  ImageWriter(Sink sink, Header header) : sink_(std::move(sink)), header_(header) {}

  /// The header; before anything else.
  Result<> begin();
  /// `contents` of header().block_size bytes. No block is given twice.
  Result<> add(BlockNo block, std::span<const std::byte> contents);
  /// Writes what is left, and the last frame.
  Result<> end(std::uint64_t unreadable);

  const Header& header() const { return header_; }
  std::uint64_t blocks() const { return blocks_; }
  std::uint64_t bytes_written() const { return bytes_written_; }

 private:
  Result<> put(std::span<const std::byte> bytes);
  Result<> write_frame();

  Sink sink_;
  Header header_;
  std::vector<BlockNo> numbers_;
  std::vector<std::byte> contents_;
  std::uint32_t sequence_ = 0;
  std::uint64_t blocks_ = 0;
  std::uint64_t bytes_written_ = 0;
};

class ImageReader {
 public:
  /// Fills the span; how many bytes there were, fewer only at the end.
  using Source = std::function<Result<std::size_t>(std::span<std::byte>)>;
  explicit ImageReader(Source source) : source_(std::move(source)) {}

  /// First of all. Errors: decode_header()'s and the source's.
  Result<Header> begin();
  /// The next frame; nothing behind the last one, and then totals() are there and nothing follows in the file. Corrupt
  /// where it is damaged or ends early.
  Result<std::optional<Frame>> next();
  const Totals& totals() const { return totals_; }
  std::uint64_t blocks() const { return blocks_; }

 private:
  Result<std::vector<std::byte>> take(std::size_t bytes);
  Result<> finish(std::span<const std::byte> header, std::span<const std::byte> payload);

  Source source_;
  Header header_;
  std::uint32_t sequence_ = 0;
  std::uint64_t blocks_ = 0;
  Totals totals_;
};

}  // namespace corral::image
