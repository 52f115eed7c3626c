#include "disk/uring_device.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/aligned_buffer.h"
#include "disk/block_geometry.h"
#include "disk/device_users.h"
#include "disk/kernel_reservations.h"
#include "disk/transfer_check.h"

namespace corral {

namespace {
/// One request to the kernel: large enough to keep any device streaming, small enough that others get their turn.
constexpr std::uint64_t kMostTransferBytes = 4 << 20;
constexpr std::size_t kMostVectors = IOV_MAX;

/// Where in a list of spans a transfer stands.
template <class Span>
class SpanCursor {
 public:
  explicit SpanCursor(std::span<const Span> spans) : spans_(spans) {}

  /// The memory of the next request to the kernel.
  void fill(std::vector<iovec>& vectors) const {
    vectors.clear();
    std::uint64_t room = kMostTransferBytes;
    std::size_t within = within_;
    for (std::size_t i = index_; i < spans_.size() && vectors.size() < kMostVectors && room > 0; ++i) {
      std::size_t part = std::min<std::size_t>(spans_[i].size() - within, room);
      // The kernel's type serves both directions.
      auto* memory = const_cast<std::byte*>(spans_[i].data() + within);
      if (part > 0) vectors.push_back({memory, part});
      room -= part;
      within = 0;
    }
  }
  void advance(std::uint64_t bytes) {
    while (bytes > 0) {
      std::uint64_t part = std::min<std::uint64_t>(spans_[index_].size() - within_, bytes);
      within_ += part;
      bytes -= part;
      if (within_ == spans_[index_].size()) {
        ++index_;
        within_ = 0;
      }
    }
  }

 private:
  std::span<const Span> spans_;
  std::size_t index_ = 0;
  std::size_t within_ = 0;
};

const char* verb_of(RingRequest::Kind kind) {
  switch (kind) {
    case RingRequest::Kind::read:
      return "read";
    case RingRequest::Kind::write:
      return "write";
    case RingRequest::Kind::write_through:
      return "write-through";
    case RingRequest::Kind::sync:
      return "flush";
  }
  return "";
}

std::unexpected<Error> in_use(const std::string& path, int descriptor) {
  std::string users = describe_users(descriptor);
  return fail(EBUSY, "{} is in use{}{}", path, users.empty() ? "" : ": ", users);
}

Result<FileDescriptor> open_block_device(const std::string& path, int flags, bool exclusive) {
  FileDescriptor file(open(path.c_str(), flags | (exclusive ? O_EXCL : 0)));
  if (file) return file;
  int error = errno;
  if (error != EBUSY) return fail(error, "cannot open {}: {}", path, std::strerror(error));
  FileDescriptor shared(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return in_use(path, shared.get());
}

Result<> lock_file(const std::string& path, int descriptor, UringDeviceOptions options) {
  const bool shared = options.read_only || options.shared_file;
  if (flock(descriptor, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return in_use(path, descriptor);
    return fail(errno, "cannot lock {}: {}", path, std::strerror(errno));
  }
  std::string loop_device = find_loop_device(descriptor);
  if (!shared && !loop_device.empty())
    return fail(EBUSY, "{} is in use: attached to {}; use that device, or detach it", path, loop_device);
  return {};
}

/// Whether single sectors can be transferred directly: some filesystems take O_DIRECT at open and refuse small
/// transfers. Kernels before 6.1 do not tell; reading shows it at least where the sector is no hole.
bool takes_direct_sectors(int descriptor) {
  constexpr std::uint32_t kSectorBytes = 512;
  struct statx status{};
  if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && (status.stx_mask & STATX_DIOALIGN) != 0)
    return status.stx_dio_offset_align > 0 && status.stx_dio_offset_align <= kSectorBytes;
  AlignedBuffer buffer(kSectorBytes);
  return pread(descriptor, buffer.data(), buffer.size(), kSectorBytes) >= 0;
}

struct OpenedFile {
  FileDescriptor file;
  bool direct;
};

Result<OpenedFile> open_file(const std::string& path, int flags, UringDeviceOptions options) {
  FileDescriptor file(open(path.c_str(), flags));
  bool direct = (flags & O_DIRECT) != 0;
  if (!file && errno == EINVAL && direct) {
    direct = false;
    file = FileDescriptor(open(path.c_str(), flags & ~O_DIRECT));
  }
  if (!file) return fail(errno, "cannot open {}: {}", path, std::strerror(errno));
  if (options.exclusive) TRY_VOID(lock_file(path, file.get(), options));
  if (direct && !takes_direct_sectors(file.get())) {
    direct = false;
    if (fcntl(file.get(), F_SETFL, fcntl(file.get(), F_GETFL) & ~O_DIRECT) != 0)
      return fail(errno, "{}: cannot leave direct mode: {}", path, std::strerror(errno));
  }
  return OpenedFile{std::move(file), direct};
}
}  // namespace

Result<std::unique_ptr<UringDevice>> UringDevice::open(EventLoop& loop, const std::string& path,
                                                       UringDeviceOptions options) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return fail(errno, "cannot open {}: {}", path, std::strerror(errno));
  int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_DIRECT;
  OpenedFile opened{FileDescriptor(), true};
  FileDescriptor claim;
  if (S_ISBLK(status.st_mode)) {
    if (options.exclusive && !options.claimed) {
      TRY(claim, open_block_device(path, O_RDONLY | O_CLOEXEC, true));
    }
    TRY(opened.file, open_block_device(path, flags, false));
  } else if (S_ISREG(status.st_mode)) {
    TRY(opened, open_file(path, flags, options));
  } else {
    return fail(ENOTBLK, "{} is neither a block device nor a file", path);
  }
  TRY(DeviceGeometry geometry, read_geometry(opened.file.get(), path));
  geometry.read_only |= options.read_only;
  TRY(std::unique_ptr<Ring> ring, Ring::open(loop, options.queue_depth));
  return std::unique_ptr<UringDevice>(
      new UringDevice(loop, path, std::move(claim), std::move(opened.file), opened.direct, geometry, std::move(ring)));
}

UringDevice::UringDevice(EventLoop& loop, std::string name, FileDescriptor claim, FileDescriptor file, bool direct,
                         DeviceGeometry geometry, std::unique_ptr<Ring> ring)
    : executor_(loop.executor()),
      name_(std::move(name)),
      claim_(std::move(claim)),
      file_(std::move(file)),
      direct_(direct),
      geometry_(geometry),
      gate_(loop.executor()),
      ring_(std::move(ring)),
      helper_(loop, 1),
      reservations_(open_kernel_reservations(loop, file_.get(), name_)),
      life_locks_(FileLifeLocks::of(file_.get(), name_)) {}

UringDevice::~UringDevice() = default;

std::unexpected<Error> UringDevice::closed() const {
  return fail_device(ESHUTDOWN, "{}: the device is closed", name_);
}

Task<Result<>> UringDevice::read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  CO_TRY(std::uint64_t length, check_read(*this, offset_bytes, spans));
  co_return co_await transfer(RingRequest::Kind::read, offset_bytes, spans, length);
}

Task<Result<>> UringDevice::write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) {
  CO_TRY(std::uint64_t length, check_write(*this, offset_bytes, spans));
  auto kind = mode == WriteMode::write_through ? RingRequest::Kind::write_through : RingRequest::Kind::write;
  co_return co_await transfer(kind, offset_bytes, spans, length);
}

template <class Span>
Task<Result<>> UringDevice::transfer(RingRequest::Kind kind, std::uint64_t offset_bytes, std::span<const Span> spans,
                                     std::uint64_t length_bytes) {
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  SpanCursor<Span> cursor(spans);
  std::vector<iovec> vectors;
  for (std::uint64_t done = 0; done < length_bytes;) {
    cursor.fill(vectors);
    int moved = co_await ring_->perform(
        {.kind = kind, .descriptor = file_.get(), .offset_bytes = offset_bytes + done, .vectors = vectors});
    if (moved == -EINTR || moved == -EAGAIN) {
      co_await executor_.yield();
      continue;
    }
    if (moved < 0) {
      co_return fail_device(-moved, "{}: {} of {} bytes at offset {} failed: {}", name_, verb_of(kind),
                            length_bytes - done, offset_bytes + done, std::strerror(-moved));
    }
    // What is left over of a sector cannot be continued from; it is transferred again.
    std::uint64_t whole = static_cast<std::uint64_t>(moved) / geometry_.sector_bytes * geometry_.sector_bytes;
    if (whole == 0) {
      co_return fail_device(EIO, "{}: {} of {} bytes at offset {} moved nothing: has the file been truncated?", name_,
                            verb_of(kind), length_bytes - done, offset_bytes + done);
    }
    cursor.advance(whole);
    done += whole;
  }
  co_return Result<>{};
}

Task<Result<>> UringDevice::flush() {
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  if (geometry_.read_only || (direct_ && !geometry_.volatile_write_cache)) co_return Result<>{};
  int result = -EINTR;
  while (result == -EINTR || result == -EAGAIN)
    result = co_await ring_->perform({.kind = RingRequest::Kind::sync, .descriptor = file_.get()});
  if (result < 0) co_return fail_device(-result, "{}: flush failed: {}", name_, std::strerror(-result));
  co_return Result<>{};
}

Task<Result<>> UringDevice::discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  CO_TRY_VOID(check_discard(*this, offset_bytes, length_bytes));
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  if (length_bytes == 0) co_return Result<>{};
  auto error = std::make_shared<int>(0);
  co_await helper_.run([error, file = file_.get(), offset_bytes, length_bytes] {
    struct stat status{};
    int result = fstat(file, &status);
    if (result == 0 && S_ISBLK(status.st_mode)) {
      std::uint64_t range[2] = {offset_bytes, length_bytes};
      result = ioctl(file, BLKDISCARD, range);
    } else if (result == 0) {
      result = fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset_bytes),
                         static_cast<off_t>(length_bytes));
    }
    if (result != 0) *error = errno;
  });
  if (*error != 0) {
    co_return fail_device(*error, "{}: discard of {} bytes at offset {} failed: {}", name_, length_bytes, offset_bytes,
                          std::strerror(*error));
  }
  co_return Result<>{};
}

Task<Result<>> UringDevice::refresh_size() {
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  auto looked = std::make_shared<Result<DeviceGeometry>>(DeviceGeometry{});
  co_await helper_.run([looked, file = file_.get(), name = name_] {
    struct stat status{};
    if (fstat(file, &status) == 0 && S_ISBLK(status.st_mode)) {
      // Only SCSI disks have it; where it cannot be written the kernel's knowledge must do.
      const std::string rescan =
          fmt::format("/sys/dev/block/{}:{}/device/rescan", major(status.st_rdev), minor(status.st_rdev));
      const FileDescriptor scan(::open(rescan.c_str(), O_WRONLY | O_CLOEXEC));
      if (scan) [[maybe_unused]]
        const ssize_t written = ::write(scan.get(), "1", 1);
    }
    *looked = read_geometry(file, name);
  });
  if (!*looked) co_return std::unexpected(looked->error());
  geometry_.size_bytes = std::max(geometry_.size_bytes, (*looked)->size_bytes);
  co_return Result<>{};
}

Task<void> UringDevice::close() {
  co_await gate_.close();
  co_await ring_->drain();
}

}  // namespace corral
