#include "tools/image/restore_image.h"

#include <algorithm>

#include "base/aligned_buffer.h"
#include "ondisk/geometry.h"

namespace corral::image {

namespace {

class Restoring {
 public:
  Restoring(Device& device, Header header, const RestoreOptions& options)
      : device_(device),
        options_(options),
        geometry_(header.block_size),
        buffer_(std::max<std::size_t>(kFrameContentBytes, header.block_size), false),
        superblock_(header.block_size) {}

  Task<Result<>> begin();
  Task<Result<>> write(Frame frame);
  Task<Result<>> end();

 private:
  Task<Result<>> write_run(BlockNo first, std::span<const std::byte> contents);

  Device& device_;
  const RestoreOptions& options_;
  ondisk::Geometry geometry_;
  AlignedBuffer buffer_;
  AlignedBuffer superblock_;
  std::uint64_t written_ = 0;
};

bool is_empty(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

Task<Result<>> Restoring::begin() {
  if (options_.empty_device) co_return Result<>{};
  CO_TRY_VOID(co_await device_.write(geometry_.offset_bytes(geometry_.superblock()), superblock_.span(),
                                     WriteMode::write_through));
  co_return Result<>{};
}

Task<Result<>> Restoring::write_run(BlockNo first, std::span<const std::byte> contents) {
  written_ += contents.size();
  if (options_.progress) options_.progress("restoring", written_ >> geometry_.block_shift(), 0);
  if (options_.empty_device && is_empty(contents)) co_return Result<>{};
  const std::span<std::byte> aligned = buffer_.span().first(contents.size());
  std::ranges::copy(contents, aligned.begin());
  co_return co_await device_.write(geometry_.offset_bytes(first), aligned, WriteMode::cached);
}

Task<Result<>> Restoring::write(Frame frame) {
  const std::size_t bytes = geometry_.block_size();
  const std::span<const std::byte> contents(frame.contents);
  for (std::size_t i = 0; i < frame.numbers.size();) {
    if (frame.numbers[i] == geometry_.superblock()) {
      std::ranges::copy(contents.subspan(i * bytes, bytes), superblock_.span().begin());
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    while (end < frame.numbers.size() && frame.numbers[end] == frame.numbers[end - 1] + 1 &&
           frame.numbers[end] != geometry_.superblock() &&
           is_empty(contents.subspan(end * bytes, bytes)) == is_empty(contents.subspan(i * bytes, bytes)))
      ++end;
    CO_TRY_VOID(co_await write_run(frame.numbers[i], contents.subspan(i * bytes, (end - i) * bytes)));
    i = end;
  }
  co_return Result<>{};
}

Task<Result<>> Restoring::end() {
  CO_TRY_VOID(co_await device_.flush());
  CO_TRY_VOID(co_await device_.write(geometry_.offset_bytes(geometry_.superblock()), superblock_.span(),
                                     WriteMode::write_through));
  co_return Result<>{};
}

}  // namespace

Result<Header> verify_image(ImageReader& reader) {
  TRY(const Header header, reader.begin());
  for (;;) {
    TRY(const std::optional<Frame> frame, reader.next());
    if (!frame) return header;
  }
}

Task<Result<>> restore_metadata(Device& device, ImageReader& reader, Header header, RestoreOptions options) {
  const DeviceGeometry& figures = device.geometry();
  if (figures.size_bytes < header.device_bytes)
    co_return fail(EINVAL, "{}: {} bytes are too few for the image of a volume on {} bytes", device.name(),
                   figures.size_bytes, header.device_bytes);
  if (header.block_size % figures.sector_bytes != 0)
    co_return fail(EINVAL, "{}: blocks of {} bytes cannot be written on a device with sectors of {} bytes",
                   device.name(), header.block_size, figures.sector_bytes);
  Restoring restoring(device, header, options);
  CO_TRY_VOID(co_await restoring.begin());
  for (;;) {
    CO_TRY(std::optional<Frame> frame, reader.next());
    if (!frame) break;
    CO_TRY_VOID(co_await restoring.write(*std::move(frame)));
  }
  co_return co_await restoring.end();
}

}  // namespace corral::image
