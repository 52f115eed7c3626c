#include "tools/image/image_file.h"

#include "base/check.h"

namespace corral::image {

Result<> ImageWriter::put(std::span<const std::byte> bytes) {
  bytes_written_ += bytes.size();
  return sink_(bytes);
}

Result<> ImageWriter::begin() {
  return put(encode_header(header_));
}

Result<> ImageWriter::write_frame() {
  if (numbers_.empty()) return {};
  const Result<> written = put(encode_frame(sequence_++, numbers_, contents_));
  numbers_.clear();
  contents_.clear();
  return written;
}

Result<> ImageWriter::add(BlockNo block, std::span<const std::byte> contents) {
  CHECK_INVARIANT(contents.size() == header_.block_size);
  numbers_.push_back(block);
  contents_.insert(contents_.end(), contents.begin(), contents.end());
  ++blocks_;
  return numbers_.size() == frame_blocks(header_.block_size) ? write_frame() : Result<>();
}

Result<> ImageWriter::end(std::uint64_t unreadable) {
  TRY_VOID(write_frame());
  return put(encode_last_frame(sequence_, {.blocks = blocks_, .unreadable = unreadable}));
}

Result<std::vector<std::byte>> ImageReader::take(std::size_t bytes) {
  std::vector<std::byte> taken(bytes);
  TRY(const std::size_t came, source_(taken));
  if (came != bytes) return fail_corrupt("it ends within frame {}: the file was cut off", sequence_);
  return taken;
}

Result<Header> ImageReader::begin() {
  std::vector<std::byte> bytes(kHeaderBytes);
  TRY(const std::size_t came, source_(bytes));
  TRY(header_, decode_header(std::span(bytes).first(came)));
  return header_;
}

Result<> ImageReader::finish(std::span<const std::byte> header, std::span<const std::byte> payload) {
  TRY(totals_, decode_totals(header, payload));
  if (totals_.blocks != blocks_) return fail_corrupt("{} blocks found, and {} were saved", blocks_, totals_.blocks);
  std::byte more{};
  TRY(const std::size_t came, source_(std::span(&more, 1)));
  if (came != 0) return fail_corrupt("something follows behind its end");
  return {};
}

Result<std::optional<Frame>> ImageReader::next() {
  TRY(const std::vector<std::byte> header_bytes, take(kFrameHeaderBytes));
  TRY(const FrameHeader header, decode_frame_header(header_bytes, sequence_, header_.block_size));
  TRY(const std::vector<std::byte> payload, take(header.payload_bytes));
  ++sequence_;
  if (header.blocks == 0) {
    TRY_VOID(finish(header_bytes, payload));
    return std::nullopt;
  }
  TRY(Frame frame, decode_frame(header_bytes, payload, header_));
  blocks_ += frame.numbers.size();
  return frame;
}

}  // namespace corral::image
