#include "disk/uring_device.h"

#include <climits>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/aligned_buffer.h"
#include "base/random.h"
#include "test/support/catch.h"
#include "test/support/temporary_file.h"

using namespace corral;
using namespace std::chrono_literals;

namespace {
constexpr std::uint64_t kMebibyte = 1 << 20;

AlignedBuffer random_bytes(std::size_t bytes, std::uint64_t seed) {
  AlignedBuffer buffer(bytes);
  Random random(seed);
  for (std::byte& byte : buffer.span())
    byte = static_cast<std::byte>(random.next());
  return buffer;
}

bool equal(const AlignedBuffer& a, const AlignedBuffer& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

/// A loop, an image file of the size wanted, and the device on it.
struct ImageBench {
  explicit ImageBench(std::uint64_t bytes, UringDeviceOptions options = {}) {
    REQUIRE(truncate(file.path().c_str(), static_cast<off_t>(bytes)) == 0);
    auto opened = UringDevice::open(loop, file.path(), options);
    INFO((opened ? "" : opened.error().describe()));
    REQUIRE(opened.has_value());
    device = std::move(*opened);
  }
  Result<> run(Task<Result<>> task) { return loop.run_until_done(std::move(task)); }

  EventLoop loop;
  TemporaryFile file;
  std::unique_ptr<UringDevice> device;
};

Task<void> join(Scope& scope) {
  co_await scope.join();
}

Task<void> sleep_for(Executor& executor, Duration duration) {
  co_await executor.sleep_for(duration);
}

Task<void> close_device(UringDevice& device) {
  co_await device.close();
}

/// Writes a block of its own and reads it back.
Task<void> write_and_verify(Device& device, std::uint64_t block, int& verified) {
  AlignedBuffer out = random_bytes(4096, block);
  auto written = co_await device.write(block * 4096, out.span(), WriteMode::cached);
  if (!written) co_return;
  AlignedBuffer in(4096);
  auto read = co_await device.read(block * 4096, in.span());
  if (read && equal(in, out)) ++verified;
}

Task<void> read_block(Device& device, AlignedBuffer& buffer, std::uint64_t offset, int& ended) {
  auto read = co_await device.read(offset, buffer.span());
  if (read) ++ended;
}

Task<void> discard_and_count(Device& device, int& ended) {
  auto discarded = co_await device.discard(0, 4096);
  if (discarded) ++ended;
}
}  // namespace

TEST_CASE("an image file reads back what was written, through the page cache or past it") {
  ImageBench bench(8 * kMebibyte);
  REQUIRE(bench.device->name() == bench.file.path());
  REQUIRE(bench.device->geometry().size_bytes == 8 * kMebibyte);
  REQUIRE(bench.device->geometry().sector_bytes == 512);
  REQUIRE(bench.device->geometry().volatile_write_cache);
  REQUIRE_FALSE(bench.device->geometry().read_only);
  AlignedBuffer out = random_bytes(4096, 1);
  REQUIRE(bench.run(bench.device->write(512, out.span(), WriteMode::cached)).has_value());
  REQUIRE(bench.run(bench.device->write(kMebibyte, out.span(), WriteMode::write_through)).has_value());
  REQUIRE(bench.run(bench.device->flush()).has_value());
  for (std::uint64_t offset : {std::uint64_t{512}, kMebibyte}) {
    AlignedBuffer in(4096);
    REQUIRE(bench.run(bench.device->read(offset, in.span())).has_value());
    REQUIRE(equal(in, out));
  }
}

TEST_CASE("a file's tail that is shorter than a sector is not part of the device") {
  ImageBench bench(kMebibyte + 700);
  REQUIRE(bench.device->geometry().size_bytes == kMebibyte + 512);
}

TEST_CASE("a device that has grown is as large as it is when its size is looked at, and never smaller than it was") {
  ImageBench bench(kMebibyte);
  REQUIRE(truncate(bench.file.path().c_str(), 3 * kMebibyte) == 0);
  CHECK(bench.device->geometry().size_bytes == kMebibyte);
  REQUIRE(bench.run(bench.device->refresh_size()));
  CHECK(bench.device->geometry().size_bytes == 3 * kMebibyte);
  const AlignedBuffer bytes = random_bytes(4096, 1);
  CHECK(bench.run(bench.device->write(3 * kMebibyte - 4096, bytes.span(), WriteMode::cached)));
  REQUIRE(truncate(bench.file.path().c_str(), kMebibyte) == 0);
  REQUIRE(bench.run(bench.device->refresh_size()));
  CHECK(bench.device->geometry().size_bytes == 3 * kMebibyte);
  bench.loop.run_until_done(close_device(*bench.device));
  CHECK(bench.run(bench.device->refresh_size()).error().code() == ESHUTDOWN);
}

TEST_CASE("long transfers of many spans are split and put together again") {
  ImageBench bench(32 * kMebibyte);
  constexpr std::size_t kSpans = 3 * IOV_MAX + 5;
  AlignedBuffer out = random_bytes(kSpans * 512, 2);
  std::vector<WriteSpan> pieces;
  for (std::size_t i = 0; i < kSpans; ++i)
    pieces.push_back(out.span().subspan(i * 512, 512));
  REQUIRE(bench.run(bench.device->write(kMebibyte, std::span<const WriteSpan>(pieces), WriteMode::cached)).has_value());
  AlignedBuffer in(kSpans * 512);
  REQUIRE(bench.run(bench.device->read(kMebibyte, in.span())).has_value());
  REQUIRE(equal(in, out));

  // Spans of uneven length, an empty one among them, over several transfers.
  AlignedBuffer large = random_bytes(11 * kMebibyte, 3);
  std::vector<WriteSpan> uneven{large.span().first(5 * kMebibyte + 512), large.span().first(0),
                                large.span().subspan(5 * kMebibyte + 512)};
  REQUIRE(bench.run(bench.device->write(512, std::span<const WriteSpan>(uneven), WriteMode::cached)).has_value());
  AlignedBuffer back(11 * kMebibyte);
  std::vector<ReadSpan> halves{back.span().first(1536), back.span().subspan(1536)};
  REQUIRE(bench.run(bench.device->read(512, std::span<const ReadSpan>(halves))).has_value());
  REQUIRE(equal(back, large));
  REQUIRE(bench.run(bench.device->read(0, std::span<const ReadSpan>())).has_value());
}

TEST_CASE("more operations than the queue is deep all complete, few submissions for many") {
  ImageBench bench(4 * kMebibyte, {.queue_depth = 8});
  int verified = 0;
  Scope scope(bench.loop.executor());
  for (std::uint64_t block = 0; block < 200; ++block)
    scope.spawn(write_and_verify(*bench.device, block, verified));
  REQUIRE(bench.device->ring().in_flight() == 8);
  bench.loop.run_until_done(join(scope));
  REQUIRE(verified == 200);
  REQUIRE(bench.device->ring().in_flight() == 0);
  REQUIRE(bench.device->ring().requests() >= 400);
  REQUIRE(bench.device->ring().submissions() < bench.device->ring().requests());
}

TEST_CASE("a turn's operations are submitted together") {
  ImageBench bench(4 * kMebibyte);
  std::vector<AlignedBuffer> buffers;
  int ended = 0;
  Scope scope(bench.loop.executor());
  buffers.reserve(20);
  for (std::uint64_t i = 0; i < 20; ++i)
    scope.spawn(read_block(*bench.device, buffers.emplace_back(4096), i * 4096, ended));
  bench.loop.run_until_done(join(scope));
  REQUIRE(ended == 20);
  REQUIRE(bench.device->ring().submissions() == 3);
}

TEST_CASE("requests out of bounds are refused by name") {
  ImageBench bench(kMebibyte);
  AlignedBuffer buffer(4096);
  auto past = bench.run(bench.device->read(kMebibyte - 512, buffer.span()));
  REQUIRE(past.error().code() == EINVAL);
  REQUIRE(past.error().kind() == ErrorKind::device);
  REQUIRE(past.error().message() == bench.file.path() +
                                        ": read of 4096 bytes at offset 1048064 reaches past the device's end at "
                                        "1048576");
  REQUIRE(bench.run(bench.device->write(kMebibyte, buffer.span(), WriteMode::cached)).error().code() == ENOSPC);
  REQUIRE(bench.run(bench.device->discard(kMebibyte, 512)).error().code() == EINVAL);
  REQUIRE(bench.device->ring().requests() == 0);
}

TEST_CASE("a file that was truncated under the device gives EIO with the place, also after a short read") {
  ImageBench bench(4 * kMebibyte);
  REQUIRE(truncate(bench.file.path().c_str(), kMebibyte) == 0);
  AlignedBuffer buffer(8192);
  auto beyond = bench.run(bench.device->read(2 * kMebibyte, buffer.span()));
  REQUIRE(beyond.error().code() == EIO);
  REQUIRE(beyond.error().message() ==
          bench.file.path() + ": read of 8192 bytes at offset 2097152 moved nothing: has the file been truncated?");
  auto across = bench.run(bench.device->read(kMebibyte - 4096, buffer.span()));
  REQUIRE(across.error().message() ==
          bench.file.path() + ": read of 4096 bytes at offset 1048576 moved nothing: has the file been truncated?");
}

TEST_CASE("an error of the system call is told with operation, place and length") {
  // Memory that may not be written makes the kernel refuse the read.
  ImageBench bench(kMebibyte);
  void* forbidden = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::span<std::byte> nowhere(static_cast<std::byte*>(forbidden), 4096);
  auto failed = bench.run(bench.device->read(8192, nowhere));
  munmap(forbidden, 4096);
  REQUIRE(failed.error().code() == EFAULT);
  REQUIRE(failed.error().kind() == ErrorKind::device);
  REQUIRE(failed.error().message() == bench.file.path() + ": read of 4096 bytes at offset 8192 failed: Bad address");
}

TEST_CASE("a read-only device refuses changes and has nothing to flush") {
  TemporaryFile file;
  REQUIRE(truncate(file.path().c_str(), kMebibyte) == 0);
  REQUIRE(chmod(file.path().c_str(), 0444) == 0);
  EventLoop loop;
  auto device = UringDevice::open(loop, file.path(), {.read_only = true});
  REQUIRE(device.has_value());
  REQUIRE((*device)->geometry().read_only);
  AlignedBuffer buffer(512);
  auto written = loop.run_until_done((*device)->write(0, buffer.span(), WriteMode::cached));
  REQUIRE(written.error().code() == EROFS);
  REQUIRE(written.error().message() == file.path() + ": write at offset 0 refused: the device is open read-only");
  REQUIRE(loop.run_until_done((*device)->discard(0, 512)).error().code() == EROFS);
  REQUIRE(loop.run_until_done((*device)->flush()).has_value());
  REQUIRE((*device)->ring().requests() == 0);
}

TEST_CASE("what cannot be opened says why") {
  EventLoop loop;
  auto missing = UringDevice::open(loop, "/nonexistent/disk");
  REQUIRE(missing.error().code() == ENOENT);
  REQUIRE(missing.error().message() == "cannot open /nonexistent/disk: No such file or directory");
  auto folder = UringDevice::open(loop, "/tmp");
  REQUIRE(folder.error().code() == ENOTBLK);
  REQUIRE(folder.error().message() == "/tmp is neither a block device nor a file");
  REQUIRE(UringDevice::open(loop, "/dev/null").error().code() == ENOTBLK);
}

TEST_CASE("exclusive use is refused to a second opener, who is told of the first") {
  ImageBench bench(kMebibyte);
  auto second = UringDevice::open(bench.loop, bench.file.path());
  REQUIRE(second.error().code() == EBUSY);
  REQUIRE(second.error().message() ==
          fmt::format("{} is in use: locked by process {} (test_disk)", bench.file.path(), getpid()));
  REQUIRE(UringDevice::open(bench.loop, bench.file.path(), {.read_only = true}).error().code() == EBUSY);
  REQUIRE(UringDevice::open(bench.loop, bench.file.path(), {.exclusive = false}).has_value());
  bench.device.reset();
  auto reader = UringDevice::open(bench.loop, bench.file.path(), {.read_only = true});
  REQUIRE(reader.has_value());
  REQUIRE(UringDevice::open(bench.loop, bench.file.path(), {.read_only = true}).has_value());
  REQUIRE(UringDevice::open(bench.loop, bench.file.path()).error().code() == EBUSY);
}

TEST_CASE("a discarded range of a file is a hole") {
  ImageBench bench(4 * kMebibyte);
  AlignedBuffer buffer = random_bytes(2 * kMebibyte, 4);
  REQUIRE(bench.run(bench.device->write(kMebibyte, buffer.span(), WriteMode::cached)).has_value());
  REQUIRE(bench.run(bench.device->discard(kMebibyte, 2 * kMebibyte)).has_value());
  REQUIRE(bench.run(bench.device->discard(0, 0)).has_value());
  REQUIRE(bench.run(bench.device->read(kMebibyte, buffer.span())).has_value());
  REQUIRE(equal(buffer, AlignedBuffer(2 * kMebibyte)));
  struct stat status{};
  REQUIRE(stat(bench.file.path().c_str(), &status) == 0);
  REQUIRE(status.st_blocks == 0);
  REQUIRE(status.st_size == 4 * kMebibyte);
}

TEST_CASE("close waits for what is in flight and refuses what comes later") {
  ImageBench bench(4 * kMebibyte);
  std::vector<AlignedBuffer> buffers;
  int ended = 0;
  buffers.reserve(20);
  Scope scope(bench.loop.executor());
  for (std::uint64_t i = 0; i < 20; ++i)
    scope.spawn(read_block(*bench.device, buffers.emplace_back(4096), i * 4096, ended));
  scope.spawn(discard_and_count(*bench.device, ended));
  REQUIRE(ended == 0);
  bench.loop.run_until_done(close_device(*bench.device));
  bench.loop.run_until_done(join(scope));
  REQUIRE(ended == 21);
  AlignedBuffer buffer(512);
  REQUIRE(bench.run(bench.device->read(0, buffer.span())).error().code() == ESHUTDOWN);
  REQUIRE(bench.run(bench.device->write(0, buffer.span(), WriteMode::cached)).error().code() == ESHUTDOWN);
  REQUIRE(bench.run(bench.device->flush()).error().code() == ESHUTDOWN);
  auto discarded = bench.run(bench.device->discard(0, 512));
  REQUIRE(discarded.error().code() == ESHUTDOWN);
  REQUIRE(discarded.error().message() == bench.file.path() + ": the device is closed");
}

TEST_CASE("frames may be destroyed with operations in flight or waiting for their turn, then the device") {
  for (bool run_between : {false, true}) {
    std::vector<AlignedBuffer> buffers;
    buffers.reserve(20);
    int ended = 0;
    ImageBench bench(4 * kMebibyte, {.queue_depth = 4});
    {
      Scope scope(bench.loop.executor());
      for (std::uint64_t i = 0; i < 20; ++i)
        scope.spawn(read_block(*bench.device, buffers.emplace_back(4096), i * 4096, ended));
      scope.spawn(discard_and_count(*bench.device, ended));
    }
    REQUIRE(bench.device->ring().in_flight() == 4);
    if (run_between) {
      bench.loop.run_until_done(sleep_for(bench.loop.executor(), 20ms));
      REQUIRE(bench.device->ring().in_flight() == 0);
      int verified = 0;
      Scope scope(bench.loop.executor());
      for (std::uint64_t block = 0; block < 8; ++block)
        scope.spawn(write_and_verify(*bench.device, block, verified));
      bench.loop.run_until_done(join(scope));
      REQUIRE(verified == 8);
    }
    bench.device.reset();
    REQUIRE(ended == 0);
  }
}

namespace {
/// A tmpfs of one mebibyte; absent where mounting is not allowed.
struct SmallFilesystem {
  SmallFilesystem() {
    char name[] = "/tmp/corral-test-XXXXXX";
    folder = mkdtemp(name);
    mounted = mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=1m") == 0;
  }
  ~SmallFilesystem() {
    if (mounted) umount(folder.c_str());
    rmdir(folder.c_str());
  }
  std::string folder;
  bool mounted = false;
};

/// A loop device over a file; absent where there is none to be had.
struct LoopDevice {
  explicit LoopDevice(const std::string& backing, std::uint32_t sector_bytes = 512) {
    FileDescriptor control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    FileDescriptor file(open(backing.c_str(), O_RDWR | O_CLOEXEC));
    if (!control || !file) return;
    for (int attempt = 0; attempt < 20 && path.empty(); ++attempt) {
      int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
      std::string candidate = fmt::format("/dev/loop{}", number);
      FileDescriptor descriptor(open(candidate.c_str(), O_RDWR | O_CLOEXEC));
      loop_config config{};
      config.fd = static_cast<std::uint32_t>(file.get());
      config.block_size = sector_bytes;
      // Another process may have taken it meanwhile.
      if (descriptor && ioctl(descriptor.get(), LOOP_CONFIGURE, &config) == 0) path = candidate;
    }
  }
  ~LoopDevice() {
    FileDescriptor descriptor(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (descriptor) ioctl(descriptor.get(), LOOP_CLR_FD, 0);
  }
  std::string path;
};
}  // namespace

TEST_CASE("a full filesystem under an image gives ENOSPC") {
  SmallFilesystem filesystem;
  if (!filesystem.mounted) {
    WARN("skipped: may not mount a tmpfs here");
    return;
  }
  EventLoop loop;
  TemporaryFile file(filesystem.folder);
  REQUIRE(truncate(file.path().c_str(), 8 * kMebibyte) == 0);
  auto device = UringDevice::open(loop, file.path());
  REQUIRE(device.has_value());
  AlignedBuffer buffer = random_bytes(2 * kMebibyte, 1);
  auto written = loop.run_until_done((*device)->write(0, buffer.span(), WriteMode::cached));
  REQUIRE(written.error().code() == ENOSPC);
  REQUIRE(written.error().kind() == ErrorKind::device);
  AlignedBuffer in(4096);
  REQUIRE(loop.run_until_done((*device)->read(0, in.span())).has_value());
}

TEST_CASE("a block device: geometry, transfers, discard, exclusive use") {
  TemporaryFile file;
  REQUIRE(truncate(file.path().c_str(), 16 * kMebibyte) == 0);
  for (std::uint32_t sector_bytes : {512u, 4096u}) {
    LoopDevice block(file.path(), sector_bytes);
    if (block.path.empty()) {
      WARN("skipped: no loop device to be had here");
      return;
    }
    EventLoop loop;
    auto opened = UringDevice::open(loop, block.path);
    INFO((opened ? "" : opened.error().describe()));
    REQUIRE(opened.has_value());
    UringDevice& device = **opened;
    REQUIRE(device.direct());
    REQUIRE(device.geometry().size_bytes == 16 * kMebibyte);
    REQUIRE(device.geometry().sector_bytes == sector_bytes);
    REQUIRE(device.geometry().physical_sector_bytes >= sector_bytes);
    REQUIRE(device.geometry().minimum_io_bytes >= sector_bytes);
    REQUIRE(device.geometry().discard_granularity_bytes > 0);

    AlignedBuffer out = random_bytes(kMebibyte, sector_bytes);
    REQUIRE(loop.run_until_done(device.write(kMebibyte, out.span(), WriteMode::cached)).has_value());
    REQUIRE(loop.run_until_done(device.flush()).has_value());
    REQUIRE(loop.run_until_done(device.write(4 * kMebibyte, out.span(), WriteMode::write_through)).has_value());
    AlignedBuffer in(kMebibyte);
    REQUIRE(loop.run_until_done(device.read(kMebibyte, in.span())).has_value());
    REQUIRE(equal(in, out));
    REQUIRE(loop.run_until_done(device.discard(kMebibyte, kMebibyte)).has_value());
    REQUIRE(loop.run_until_done(device.read(kMebibyte, in.span())).has_value());
    REQUIRE(equal(in, AlignedBuffer(kMebibyte)));

    auto second = UringDevice::open(loop, block.path);
    REQUIRE(second.error().code() == EBUSY);
    REQUIRE(second.error().message().starts_with(block.path + " is in use"));
    REQUIRE(UringDevice::open(loop, block.path, {.exclusive = false}).has_value());

    auto backing = UringDevice::open(loop, file.path());
    REQUIRE(backing.error().code() == EBUSY);
    REQUIRE(backing.error().message() ==
            fmt::format("{} is in use: attached to {}; use that device, or detach it", file.path(), block.path));
    REQUIRE(UringDevice::open(loop, file.path(), {.read_only = true}).has_value());
  }
}

namespace {
/// An ext2 filesystem on a loop device with 4096-byte sectors, mounted; absent where that cannot be made.
struct LargeSectorFilesystem {
  LargeSectorFilesystem() : block(sized(backing), 4096) {
    char name[] = "/tmp/corral-test-XXXXXX";
    folder = mkdtemp(name);
    if (block.path.empty()) return;
    std::string command = fmt::format("mkfs.ext2 -q -F {} >/dev/null 2>&1", block.path);
    mounted = std::system(command.c_str()) == 0 && mount(block.path.c_str(), folder.c_str(), "ext2", 0, nullptr) == 0;
  }
  ~LargeSectorFilesystem() {
    if (mounted) umount(folder.c_str());
    rmdir(folder.c_str());
  }
  static const std::string& sized(const TemporaryFile& file) {
    REQUIRE(truncate(file.path().c_str(), 16 * kMebibyte) == 0);
    return file.path();
  }
  TemporaryFile backing;
  LoopDevice block;
  std::string folder;
  bool mounted = false;
};
}  // namespace

TEST_CASE("a mounted device is refused with the place; an image on large sectors goes through the page cache") {
  LargeSectorFilesystem filesystem;
  if (!filesystem.mounted) {
    WARN("skipped: no filesystem on a loop device to be had here");
    return;
  }
  EventLoop loop;
  auto mounted = UringDevice::open(loop, filesystem.block.path, {.read_only = true});
  REQUIRE(mounted.error().code() == EBUSY);
  REQUIRE(mounted.error().message() ==
          fmt::format("{} is in use: mounted on {}", filesystem.block.path, filesystem.folder));

  TemporaryFile file(filesystem.folder);
  REQUIRE(truncate(file.path().c_str(), kMebibyte) == 0);
  auto device = UringDevice::open(loop, file.path());
  REQUIRE(device.has_value());
  REQUIRE_FALSE((*device)->direct());
  AlignedBuffer out = random_bytes(1536, 1);
  REQUIRE(loop.run_until_done((*device)->write(512, out.span(), WriteMode::write_through)).has_value());
  REQUIRE(loop.run_until_done((*device)->flush()).has_value());
  AlignedBuffer in(1536);
  REQUIRE(loop.run_until_done((*device)->read(512, in.span())).has_value());
  REQUIRE(equal(in, out));
  device->reset();
}
