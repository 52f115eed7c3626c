// File contents: how they reach the disk, what a crash leaves, full and failing disks, journaled data.
#include <algorithm>
#include <cstring>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "base/random.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/mounted_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

constexpr std::uint64_t kMebibyte = 1u << 20;

AlignedBuffer pattern(std::size_t bytes, std::uint64_t seed) {
  AlignedBuffer buffer(bytes);
  Random random(seed);
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    std::uint64_t word = random.next();
    std::memcpy(buffer.data() + i, &word, 8);
  }
  return buffer;
}

bool equal(const std::vector<std::byte>& read, const AlignedBuffer& expected) {
  return std::ranges::equal(read, expected.span());
}

Result<std::size_t> write(MountedVolume& volume, BlockNo file, std::uint64_t offset, const AlignedBuffer& data,
                          int flags = 0) {
  Operations::WriteHow how;
  how.flags = flags;
  return volume.run(volume.operations().write(file, offset, data.span(), how));
}

Result<> fsync(MountedVolume& volume, BlockNo file) {
  return volume.run(volume.operations().fsync(file, false));
}

void truncate(MountedVolume& volume, BlockNo file, std::uint64_t size) {
  AttributeChange change;
  change.size_bytes = size;
  must(volume.run(volume.operations().set_attributes(file, change, {})));
}

Task<int> reclaimed(Filesystem& filesystem) {
  co_await filesystem.reclaim_finished();
  co_return 0;
}

void remove(MountedVolume& volume, const std::string& name, BlockNo file) {
  must(volume.run(volume.operations().unlink(volume.filesystem->root(), name)));
  volume.operations().forget(file, ~std::uint64_t{0});
  volume.run(reclaimed(*volume.filesystem));
}

Task<Result<MappedRun>> map(MountedVolume& volume, BlockNo file, FileBlock first, std::uint64_t limit) {
  CO_TRY(LockedInode inode,
         co_await volume.filesystem->inodes().lock(volume.filesystem->inodes().find(file), GlockMode::shared));
  co_return co_await volume.filesystem->tree().map(inode, first, limit);
}

/// Where on the device the file's first block lies.
SimulatedFault failing_writes_of(MountedVolume& volume, BlockNo file, std::uint64_t blocks) {
  MappedRun run = must(volume.run(map(volume, file, FileBlock(0), blocks)));
  REQUIRE_FALSE(run.is_hole());
  SimulatedFault fault;
  fault.operations = SimulatedFault::writes;
  fault.begin_bytes = volume.filesystem->volume().geometry.offset_bytes(run.start);
  fault.end_bytes = volume.filesystem->volume().geometry.offset_bytes(run.start + run.length);
  return fault;
}

}  // namespace

TEST_CASE("small writes one behind the other leave in large ones", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  AlignedBuffer data = pattern(16 * kMebibyte, 1);
  const auto before = volume.device.counters();
  for (std::size_t offset = 0; offset < data.size(); offset += 5000) {
    std::size_t bytes = std::min<std::size_t>(5000, data.size() - offset);
    must(volume.run(volume.operations().write(file, offset, data.span().subspan(offset, bytes), {})));
  }
  must(volume.run(volume.data().write_back_all()));
  const auto after = volume.device.counters();
  REQUIRE(after.bytes_written - before.bytes_written <= data.size() + kMebibyte);
  REQUIRE(after.writes - before.writes <= 40);
  REQUIRE(volume.data().dirty_bytes() == 0);
  REQUIRE(equal(volume.read(file, 0, data.size()), data));
  volume.unmount();
}

TEST_CASE("a large file lies in few pieces", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  AlignedBuffer data = pattern(kMebibyte, 1);
  for (std::uint64_t i = 0; i < 16; ++i)
    must(write(volume, file, i * kMebibyte, data));
  std::uint64_t runs = 0;
  for (FileBlock block(0); block.value < 4096; ++runs)
    block += must(volume.run(map(volume, file, block, 4096 - block.value))).length;
  REQUIRE(runs <= 12);
  volume.unmount();
}

TEST_CASE("what could not be written stays, and fails every fsync until it could", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  AlignedBuffer old_data = pattern(64 * 1024, 1);
  must(write(volume, file, 0, old_data));
  must(fsync(volume, file));
  AlignedBuffer data = pattern(64 * 1024, 2);
  auto fault = volume.device.add_fault(failing_writes_of(volume, file, 16));
  must(write(volume, file, 0, data));
  for (int i = 0; i < 2; ++i) {
    auto failed = fsync(volume, file);
    REQUIRE_FALSE(failed.has_value());
    REQUIRE(failed.error().code() == EIO);
    REQUIRE(failed.error().message().find(fmt::format("inode {}", file.value)) != std::string::npos);
  }
  REQUIRE(equal(volume.read(file, 0, data.size()), data));
  // Changed while failed.
  AlignedBuffer newer = pattern(4096, 3);
  must(write(volume, file, 4096, newer));
  std::ranges::copy(newer.span(), data.data() + 4096);
  REQUIRE_FALSE(fsync(volume, file).has_value());
  volume.device.remove_fault(fault);
  must(fsync(volume, file));
  REQUIRE(volume.data().dirty_bytes() == 0);
  volume.unmount();
  MountedVolume again(disk);
  REQUIRE(equal(again.read(again.find("file"), 0, data.size()), data));
  again.unmount();
}

TEST_CASE("no commit points to new data that cannot be written", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  {
    MountedVolume volume(disk);
    BlockNo file = volume.create("file");
    must(fsync(volume, file));
    must(write(volume, file, 0, pattern(64 * 1024, 1)));
    volume.device.add_fault(failing_writes_of(volume, file, 16));
    const Result<> flushed = volume.run(volume.filesystem->journal()->flush());
    REQUIRE_FALSE(flushed.has_value());
    REQUIRE(flushed.error().message().find(fmt::format("inode {}", file.value)) != std::string::npos);
    REQUIRE(volume.filesystem->volume().withdrawn);
    REQUIRE_FALSE(fsync(volume, file).has_value());
  }
  MountedVolume again(disk);
  REQUIRE(again.run(again.operations().get_attributes(again.find("file")))->size_bytes == 0);
  again.unmount();
}

TEST_CASE("new data whose write has failed once is tried again before its commit", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  AlignedBuffer data = pattern(64 * 1024, 1);
  must(write(volume, file, 0, data));
  auto fault = volume.device.add_fault(failing_writes_of(volume, file, 16));
  REQUIRE_FALSE(volume.run(volume.data().write_back_all()).has_value());
  volume.device.remove_fault(fault);
  must(volume.run(volume.filesystem->journal()->flush()));
  REQUIRE_FALSE(volume.filesystem->volume().withdrawn);
  REQUIRE(volume.data().dirty_bytes() == 0);
  must(fsync(volume, file));
  REQUIRE(equal(volume.read(file, 0, data.size()), data));
  volume.unmount();
}

TEST_CASE("writers wait when too much is dirty, and fail when nothing can be written", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountOptions options;
  options.cache_bytes = 4 * kMebibyte;
  MountedVolume volume(disk, options);
  BlockNo file = volume.create("file");
  AlignedBuffer data = pattern(kMebibyte, 1);
  for (std::uint64_t i = 0; i < 12; ++i) {
    must(write(volume, file, i * kMebibyte, data));
    REQUIRE(volume.data().dirty_bytes() <= options.cache_bytes / 2 + kMebibyte);
  }
  must(fsync(volume, file));
  SimulatedFault fault;
  fault.operations = SimulatedFault::writes;
  fault.begin_bytes =
      volume.filesystem->volume().geometry.offset_bytes(must(volume.run(map(volume, file, FileBlock(0), 1))).start);
  auto number = volume.device.add_fault(fault);
  Result<std::size_t> result = std::size_t{0};
  for (std::uint64_t i = 0; i < 12 && result; ++i)
    result = write(volume, file, i * kMebibyte, data);
  REQUIRE_FALSE(result.has_value());
  REQUIRE(result.error().code() == EIO);
  volume.device.remove_fault(number);
  must(fsync(volume, file));
  must(write(volume, file, 0, data));
  volume.unmount();
}

TEST_CASE("files that nobody refers to any more are written by syncfs", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk, {}, SimulatedDeviceOptions::realistic());
  const AlignedBuffer large = pattern(4 * kMebibyte, 1);
  const AlignedBuffer small = pattern(8192, 2);
  const BlockNo first = volume.create("first");
  const BlockNo second = volume.create("second");
  must(write(volume, first, 0, pattern(large.size(), 3)));
  must(write(volume, second, 0, pattern(small.size(), 4)));
  must(volume.run(volume.operations().sync()));
  // Overwritten, so that no commit names them: while the first is waited for, the second is written and leaves memory.
  must(write(volume, first, 0, large));
  must(write(volume, second, 0, small));
  for (const BlockNo file : {first, second})
    volume.operations().forget(file, ~std::uint64_t{0});
  must(volume.run(volume.data().write_back_all()));
  CHECK(volume.data().dirty_bytes() == 0);
  CHECK(equal(volume.read(volume.find("second"), 0, small.size()), small));
}

TEST_CASE("dirty data of a deleted file is not written", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  AlignedBuffer data = pattern(4 * kMebibyte, 1);
  const auto before = volume.device.counters().bytes_written;
  must(write(volume, file, 0, data));
  remove(volume, "file", file);
  must(volume.run(volume.operations().sync()));
  REQUIRE(volume.device.counters().bytes_written - before < kMebibyte);
  REQUIRE(volume.data().dirty_bytes() == 0);
  volume.unmount();
}

TEST_CASE("direct writes are on the disk when they return", "[file_data]") {
  SimulatedDisk disk(formatted_volume(1024, 64));
  MountedVolume volume(disk, {}, SimulatedDeviceOptions::realistic());
  BlockNo file = volume.create("file");
  const auto& geometry = volume.filesystem->volume().geometry;
  AlignedBuffer data = pattern(200 * 1024, 1);
  auto on_disk = [&](const AlignedBuffer& expected) {
    for (FileBlock block(0); geometry.offset_bytes(BlockNo(block.value)) < expected.size();) {
      MappedRun run = must(volume.run(map(volume, file, block, expected.size() / 1024 - block.value)));
      std::vector<std::byte> bytes(run.length * 1024);
      disk.contents().read(geometry.offset_bytes(run.start), bytes);
      if (!std::equal(bytes.begin(), bytes.end(), expected.data() + block.value * 1024)) return false;
      block += run.length;
    }
    return true;
  };
  SECTION("new blocks") {
    must(write(volume, file, 0, pattern(10'000, 5)));
    must(write(volume, file, 0, data, O_DIRECT));
    REQUIRE(on_disk(data));
  }
  SECTION("blocks that exist and are dirty") {
    must(write(volume, file, 0, pattern(200 * 1024, 2)));
    must(write(volume, file, 0, data, O_DIRECT));
    REQUIRE(on_disk(data));
  }
  SECTION("unaligned") {
    must(write(volume, file, 0, data));
    AlignedBuffer odd = pattern(3001, 3);
    must(write(volume, file, 777, odd, O_DIRECT));
    std::ranges::copy(odd.span(), data.data() + 777);
    MappedRun run = must(volume.run(map(volume, file, FileBlock(0), 4)));
    REQUIRE(run.length == 4);
    std::vector<std::byte> bytes(4 * 1024);
    disk.contents().read(geometry.offset_bytes(run.start), bytes);
    REQUIRE(std::equal(odd.data(), odd.data() + odd.size(), bytes.begin() + 777));
    must(fsync(volume, file));
    REQUIRE(on_disk(data));
  }
  REQUIRE(equal(volume.read(file, 0, data.size()), data));
  volume.unmount();
}

TEST_CASE("a direct write that fails says so", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  AlignedBuffer data = pattern(64 * 1024, 1);
  must(write(volume, file, 0, data));
  must(fsync(volume, file));
  auto fault = volume.device.add_fault(failing_writes_of(volume, file, 16));
  auto failed = write(volume, file, 0, pattern(64 * 1024, 2), O_DIRECT);
  REQUIRE_FALSE(failed.has_value());
  REQUIRE(failed.error().code() == EIO);
  REQUIRE(volume.data().dirty_bytes() == 0);
  volume.device.remove_fault(fault);
  volume.unmount();
}

TEST_CASE("a full volume takes what fits, says ENOSPC, and gives everything back", "[file_data]") {
  for (std::uint32_t block_size : {1024u, 4096u}) {
    INFO("block size " << block_size);
    SimulatedDisk disk(formatted_volume(block_size, 40));
    MountedVolume volume(disk, {}, SimulatedDeviceOptions::realistic());
    const std::uint64_t free_before = volume.free_blocks();
    BlockNo file = volume.create("file");
    AlignedBuffer data = pattern(kMebibyte + 123, 1);
    std::uint64_t size = 0;
    Result<std::size_t> result;
    for (;;) {
      result = write(volume, file, size, data);
      if (!result) break;
      size += *result;
      REQUIRE(size < 40 * kMebibyte);
    }
    REQUIRE(result.error().code() == ENOSPC);
    REQUIRE(volume.free_blocks() <= 2);
    REQUIRE(size / block_size + 1000 > free_before);
    REQUIRE(must(volume.run(volume.operations().get_attributes(file))).size_bytes == size);
    must(fsync(volume, file));
    // What exists can be written over; what does not, cannot; a hole in a full volume cannot be filled in part.
    must(write(volume, file, 4096, data));
    REQUIRE(volume.run(volume.operations().fallocate(file, 0, size + 10 * kMebibyte, kMebibyte)).error().code() ==
            ENOSPC);
    truncate(volume, file, size / 2 + 5);
    REQUIRE(write(volume, file, size, pattern(4096, 2)).has_value());
    remove(volume, "file", file);
    REQUIRE(volume.free_blocks() == free_before);
    volume.unmount();
    REQUIRE(fsck_gfs2(disk.contents()) == "");
  }
}

TEST_CASE("sizes beyond what the kernel has are refused", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  const std::uint64_t most = volume.data().max_file_bytes();
  REQUIRE(most == (std::uint64_t{1} << 63) - 1);
  REQUIRE(must(write(volume, file, most - 10, pattern(100, 1))) == 10);
  REQUIRE(write(volume, file, most, pattern(1, 1)).error().code() == EFBIG);
  {
    LockedInode inode = volume.lock(file);
    REQUIRE(volume.run(volume.data().truncate(inode, most + 1)).error().code() == EFBIG);
    REQUIRE(volume.run(volume.data().allocate(inode, 0, most, 2)).error().code() == EFBIG);
    REQUIRE(volume.run(volume.data().allocate(inode, 0, 0, 0)).error().code() == EINVAL);
    REQUIRE(volume.run(volume.data().allocate(inode, FALLOC_FL_COLLAPSE_RANGE, 0, 4096)).error().code() == EOPNOTSUPP);
    REQUIRE(volume.run(volume.data().allocate(inode, FALLOC_FL_PUNCH_HOLE, 0, 4096)).error().code() == EOPNOTSUPP);
  }
  truncate(volume, file, 0);
  {
    LockedInode inode = volume.lock(file, GlockMode::shared);
    REQUIRE(inode.is_stuffed());
    REQUIRE(inode.dinode().blocks == 1);
  }
  volume.unmount();
  REQUIRE(fsck_gfs2(disk.contents()) == "");
}

TEST_CASE("a file stays stuffed as long as it fits, and becomes so again only when it is empty", "[file_data]") {
  SimulatedDisk disk(formatted_volume(1024, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  auto height = [&] { return volume.lock(file, GlockMode::shared).dinode().height.value(); };
  const std::size_t room = 1024 - sizeof(ondisk::Dinode);
  AlignedBuffer data = pattern(room, 1);
  must(write(volume, file, 0, data));
  REQUIRE(height() == 0);
  must(volume.run(volume.operations().fallocate(file, 0, 0, room)));
  REQUIRE(height() == 0);
  must(write(volume, file, room, pattern(1, 2)));
  REQUIRE(height() == 1);
  truncate(volume, file, 10);
  REQUIRE(height() == 1);
  truncate(volume, file, room);
  REQUIRE(volume.read(file, 0, 10) == std::vector<std::byte>(data.data(), data.data() + 10));
  REQUIRE(volume.read(file, 10, room) == std::vector<std::byte>(room - 10));
  truncate(volume, file, 0);
  REQUIRE(height() == 0);
  must(volume.run(volume.operations().fallocate(file, FALLOC_FL_KEEP_SIZE, 5000, 100)));
  REQUIRE(height() == 1);
  truncate(volume, file, 5050);
  REQUIRE(volume.read(file, 0, 6000) == std::vector<std::byte>(5050));
  volume.unmount();
}

TEST_CASE("times change with the contents unless the kernel keeps them", "[file_data]") {
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  auto mtime = [&] { return must(volume.run(volume.operations().get_attributes(file))).mtime; };
  auto later = [&] { volume.clock.advance_to(volume.clock.now() + std::chrono::milliseconds(1500)); };
  for (std::size_t bytes : {100u, 10'000u, 10'000u}) {
    WallTime before = mtime();
    later();
    must(write(volume, file, 0, pattern(bytes, 1)));
    REQUIRE(mtime() == volume.clock.wall());
    REQUIRE(mtime() > before);
  }
  WallTime before = mtime();
  later();
  Operations::WriteHow how;
  how.write_back = true;
  must(volume.run(volume.operations().write(file, 0, pattern(20'000, 1).span(), how)));
  REQUIRE(mtime() == before);
  must(volume.run(volume.operations().fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5000)));
  REQUIRE(mtime() == volume.clock.wall());
  volume.unmount();
}

namespace {

/// A volume whose free blocks are full of a byte that no test writes.
constexpr std::byte kGarbage{0xEE};
DiskImage volume_with_garbage(std::uint32_t block_size) {
  SimulatedDisk disk(formatted_volume(block_size, 40));
  MountedVolume volume(disk);
  BlockNo file = volume.create("file");
  AlignedBuffer garbage(kMebibyte);
  std::ranges::fill(garbage.span(), kGarbage);
  for (std::uint64_t offset = 0;;) {
    auto written = write(volume, file, offset, garbage);
    if (!written) break;
    offset += *written;
  }
  must(fsync(volume, file));
  remove(volume, "file", file);
  volume.unmount();
  return disk.contents();
}

/// One client at work on its files.
Task<void> busy(Filesystem& filesystem, std::uint64_t seed, int steps) {
  Operations& operations = filesystem.operations();
  Random random(seed);
  const std::string name = fmt::format("file{}", seed);
  BlockNo file;
  AlignedBuffer data(200'000);
  std::ranges::fill(data.span(), std::byte{0x11});
  for (int step = 0; step < steps; ++step) {
    if (file.value == 0) {
      NewNode node;
      node.mode = S_IFREG | 0644;
      auto made = co_await operations.create(filesystem.root(), name, node, {});
      if (!made) co_return;
      file = made->attributes.inode;
    }
    std::uint64_t offset = random.below(300'000);
    std::size_t length = random.between(1, 150'000);
    switch (random.below(12)) {
      case 0: {
        AttributeChange change;
        change.size_bytes = offset;
        static_cast<void>(co_await operations.set_attributes(file, change, {}));
        break;
      }
      case 1:
        static_cast<void>(
            co_await operations.fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
        break;
      case 2:
        static_cast<void>(co_await operations.fallocate(file, 0, offset, length));
        break;
      case 3:
        static_cast<void>(co_await operations.fallocate(file, FALLOC_FL_ZERO_RANGE, offset, length));
        break;
      case 4:
        static_cast<void>(co_await operations.unlink(filesystem.root(), name));
        operations.forget(file, ~std::uint64_t{0});
        file = BlockNo();
        break;
      case 5:
        static_cast<void>(co_await operations.write(
            file, offset & ~std::uint64_t{4095}, data.span().first(length & ~std::size_t{4095}), {.flags = O_DIRECT}));
        break;
      default:
        static_cast<void>(co_await operations.write(file, offset, data.span().first(length), {}));
    }
  }
}

Task<int> all_busy(Filesystem& filesystem, Executor& executor, std::uint64_t clients, int steps) {
  Scope scope(executor);
  for (std::uint64_t i = 0; i < clients; ++i)
    scope.spawn(busy(filesystem, i, steps));
  co_await scope.join();
  co_return 0;
}

}  // namespace

TEST_CASE("no crash brings to light what the disk held before", "[file_data]") {
  for (std::uint32_t block_size : {1024u, 4096u}) {
    INFO("block size " << block_size);
    SimulatedDisk disk(volume_with_garbage(block_size));
    Random random(block_size);
    {
      MountOptions options;
      options.commit_interval = std::chrono::milliseconds(3);
      options.cache_bytes = 8 * kMebibyte;
      MountedVolume volume(disk, options, SimulatedDeviceOptions::realistic(), 7);
      volume.run(all_busy(*volume.filesystem, volume.executor, 3, 60));
      volume.unmount();
    }
    const std::uint64_t events = disk.event_count();
    for (int cut = 0; cut < 60; ++cut) {
      const PowerCut where{.event = events * static_cast<std::uint64_t>(cut) / 60, .seed = random.next()};
      INFO("cut at " << where.event << " of " << events);
      SimulatedDisk after(disk.after(where));
      MountedVolume volume(after);
      for (std::uint64_t i = 0; i < 3; ++i) {
        auto found = volume.run(volume.operations().lookup(volume.filesystem->root(), fmt::format("file{}", i)));
        if (!found) continue;
        auto bytes = volume.read(found->attributes.inode, 0, found->attributes.size_bytes);
        REQUIRE(bytes.size() == found->attributes.size_bytes);
        auto garbage = std::ranges::find(bytes, kGarbage);
        INFO("file" << i << " of " << bytes.size() << " bytes, at " << garbage - bytes.begin());
        REQUIRE(garbage == bytes.end());
      }
      volume.unmount();
      if (cut % 20 == 10) REQUIRE(fsck_gfs2(after.contents()) == "");
    }
  }
}

TEST_CASE("a truncation that a crash interrupts is completed", "[file_data]") {
  SimulatedDisk disk(formatted_volume(512, 64));
  std::uint64_t free_before = 0;
  AlignedBuffer data = pattern(8 * kMebibyte, 1);
  {
    MountedVolume volume(disk);
    free_before = volume.free_blocks();
    must(write(volume, volume.create("file"), 0, data));
    volume.unmount();
  }
  std::uint64_t first_event = 0;
  {
    // Commits fall between the steps while the tree is read.
    MountOptions options;
    options.commit_interval = std::chrono::microseconds(300);
    MountedVolume volume(disk, options, SimulatedDeviceOptions::realistic());
    first_event = disk.event_count();
    truncate(volume, volume.find("file"), 12'345);
    must(volume.run(volume.operations().sync()));
    volume.unmount();
  }
  const std::uint64_t events = disk.event_count();
  std::size_t interrupted = 0;
  for (std::uint64_t cut = 0; cut < 40; ++cut) {
    const PowerCut where{.event = first_event + (events - first_event) * cut / 40, .seed = cut};
    INFO("cut at " << where.event);
    SimulatedDisk after(disk.after(where));
    MountedVolume volume(after);
    BlockNo file = volume.find("file");
    const std::uint64_t size = must(volume.run(volume.operations().get_attributes(file))).size_bytes;
    REQUIRE((size == data.size() || size == 12'345));
    REQUIRE(std::ranges::equal(volume.read(file, 0, 12'000), data.span().first(12'000)));
    {
      LockedInode inode = volume.lock(file);
      interrupted += (inode.dinode().flags & ondisk::kDinodeTruncateInProgress) != 0;
      must(volume.run(volume.data().resume_truncate(inode)));
      REQUIRE((inode.dinode().flags & ondisk::kDinodeTruncateInProgress) == 0);
      if (size == 12'345) REQUIRE(inode.dinode().blocks <= 1 + 25 + 2);
    }
    remove(volume, "file", file);
    REQUIRE(volume.free_blocks() == free_before);
    volume.unmount();
    if (cut % 10 == 5) REQUIRE(fsck_gfs2(after.contents()) == "");
  }
  REQUIRE(interrupted > 0);
}

TEST_CASE("a file changes between ordered and journaled data and back", "[file_data]") {
  SimulatedDisk disk(formatted_volume(1024, 64));
  AlignedBuffer first = pattern(300'000, 1);
  AlignedBuffer second = pattern(300'000, 2);
  AlignedBuffer third = pattern(300'000, 3);
  BlockNo file;
  {
    MountedVolume volume(disk, {}, SimulatedDeviceOptions::realistic());
    file = volume.create("file");
    must(write(volume, file, 0, first));
    must(volume.run(volume.operations().set_flags(file, FS_JOURNAL_DATA_FL, {})));
    REQUIRE(volume.data().dirty_bytes() == 0);
    REQUIRE(equal(volume.read(file, 0, first.size()), first));
    must(write(volume, file, 0, second));
    REQUIRE(volume.data().dirty_bytes() == 0);
    must(fsync(volume, file));
    must(volume.run(volume.operations().set_flags(file, 0, {})));
    REQUIRE(equal(volume.read(file, 0, second.size()), second));
    must(write(volume, file, 0, third));
    must(fsync(volume, file));
    // The node dies: the journal must not bring back what was journaled before.
  }
  disk.power_cut(PowerCut::Unstable::lost, 1);
  MountedVolume volume(disk);
  file = volume.find("file");
  REQUIRE(equal(volume.read(file, 0, third.size()), third));
  must(volume.run(volume.operations().set_flags(file, FS_JOURNAL_DATA_FL, {})));
  REQUIRE(equal(volume.read(file, 0, third.size()), third));
  volume.unmount();
  REQUIRE(fsck_gfs2(disk.contents()) == "");
}

TEST_CASE("journaled blocks behind a file's end are forgotten as well when it is journaled no more", "[file_data]") {
  SimulatedDisk disk(formatted_volume(1024, 64));
  const AlignedBuffer head = pattern(5'000, 1);
  const AlignedBuffer rest = pattern(60'000, 2);
  MountedVolume volume(disk);
  const BlockNo file = volume.create("file");
  must(write(volume, file, 0, head));
  must(volume.run(volume.operations().set_flags(file, FS_JOURNAL_DATA_FL, {})));
  for (int mode : {0, FALLOC_FL_ZERO_RANGE})
    must(volume.run(volume.operations().fallocate(file, mode | FALLOC_FL_KEEP_SIZE, 10'300, 49'000)));
  must(volume.run(volume.operations().set_flags(file, 0, {})));
  must(write(volume, file, head.size(), rest));
  must(volume.run(volume.operations().set_flags(file, FS_JOURNAL_DATA_FL, {})));
  CHECK(equal(volume.read(file, head.size(), rest.size()), rest));
  volume.unmount();
  CHECK(fsck_gfs2(disk.contents()) == "");
}

TEST_CASE("a file that grows beyond its last block shows zeros there, whatever stood in the block", "[file_data]") {
  SimulatedDisk disk(formatted_volume(1024, 64));
  BlockNo file;
  {
    MountedVolume volume(disk);
    file = volume.create("file");
    must(write(volume, file, 0, pattern(5'000, 1)));
    must(fsync(volume, file));
    // The node dies after the data has landed, before the size is committed.
    must(write(volume, file, 5'000, pattern(100, 2)));
    must(volume.run(volume.data().write_back_all()));
  }
  disk.power_cut(PowerCut::Unstable::landed, 1);
  MountedVolume volume(disk);
  file = volume.find("file");
  REQUIRE(volume.read(file, 0, 6'000).size() == 5'000);
  SECTION("by a write") {
    must(write(volume, file, 9'000, pattern(8, 3)));
  }
  SECTION("by truncation") {
    AttributeChange change;
    change.size_bytes = 9'008;
    must(volume.run(volume.operations().set_attributes(file, change, {})));
  }
  const std::vector<std::byte> gap = volume.read(file, 5'000, 4'000);
  CHECK(gap.size() == 4'000);
  CHECK(std::ranges::all_of(gap, [](std::byte one) { return one == std::byte{0}; }));
  volume.unmount();
}

TEST_CASE("journaled data that looks like metadata survives a crash", "[file_data]") {
  SimulatedDisk disk(formatted_volume(1024, 64));
  AlignedBuffer data(40 * 1024);
  for (std::size_t block = 0; block < 40; ++block)
    ondisk::view<ondisk::MetaHeader>(data.span(), block * 1024).set(ondisk::MetaType::resource_group);
  {
    MountedVolume volume(disk);
    BlockNo file = volume.create("file");
    must(volume.run(volume.operations().set_flags(file, FS_JOURNAL_DATA_FL, {})));
    must(write(volume, file, 0, data));
    must(fsync(volume, file));
  }
  disk.power_cut(PowerCut::Unstable::lost, 1);
  MountedVolume volume(disk);
  REQUIRE(equal(volume.read(volume.find("file"), 0, data.size()), data));
  volume.unmount();
}
