// Random operations on one file against a model of its bytes and blocks.
#include <cstring>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <unistd.h>

#include "base/random.h"
#include "test/support/environment.h"
#include "test/support/file_model.h"
#include "test/support/fsck_gfs2.h"
#include "test/support/mounted_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

struct Story {
  std::uint32_t block_size;
  bool journaled;
  DataMode mode;
  std::uint64_t seed;
};

class Player {
 public:
  explicit Player(Story story)
      : story_(story),
        random_(story.seed),
        geometry_(story.block_size),
        model_(geometry_),
        disk_(formatted_volume(story.block_size, 64)) {
    mount();
    free_at_first_ = volume_->free_blocks();
    file_ = volume_->create("file");
    if (story_.journaled) must(volume_->run(volume_->operations().set_flags(file_, FS_JOURNAL_DATA_FL, {})));
  }

  void play(int steps) {
    for (int step = 0; step < steps; ++step) {
      INFO("step " << step);
      act();
      compare(random_offset(), random_.between(1, 60000));
    }
    compare_everything();
    check_blocks();
    remount();
    compare_everything();
    REQUIRE(fsck_gfs2(last_image_) == "");
    remove();
  }

 private:
  void mount() {
    MountOptions options;
    options.data = story_.mode;
    options.cache_bytes = 4u << 20;
    options.commit_interval = std::chrono::milliseconds(random_.between(2, 100));
    volume_ = std::make_unique<MountedVolume>(disk_, options, SimulatedDeviceOptions::realistic(), random_.next());
  }

  void remount() {
    volume_->unmount();
    last_image_ = disk_.contents();
    volume_.reset();
    disk_.forget_history();
    mount();
    file_ = volume_->find("file");
  }
  /// Near the beginning, around a change of the tree's height, or at the far end of what a file may reach.
  std::uint64_t random_offset() {
    std::uint64_t offset = random_.below(random_.chance(1, 2) ? 3 * geometry_.block_size() : 150'000);
    if (random_.chance(1, 3)) return offset;
    switch (random_.below(12)) {
      case 0:
        return volume_->data().max_file_bytes() - 60'000 - offset % 1000;
      case 1:
      case 2:
        return around_height(3, offset);
      case 3:
      case 4:
        return around_height(2, offset);
      case 5:
      case 6:
        return around_height(1, offset);
      default:
        return offset;
    }
  }
  std::uint64_t around_height(std::uint32_t height, std::uint64_t offset) {
    const std::uint64_t capacity = geometry_.offset_bytes(BlockNo(geometry_.height_capacity_blocks(height)));
    return std::max<std::uint64_t>(capacity, 30'000) - 30'000 + offset % 40'000;
  }
  std::uint64_t random_length() {
    return random_.chance(1, 2) ? random_.between(1, 3 * geometry_.block_size()) : random_.between(1, 40'000);
  }
  void align(std::uint64_t& number) {
    number = (number + geometry_.block_size() - 1) & ~std::uint64_t{geometry_.block_size() - 1};
  }

  void act() {
    switch (random_.below(20)) {
      case 0:
      case 1:
        return truncate();
      case 2:
      case 3:
        return punch();
      case 4:
        return allocate(0);
      case 5:
        return allocate(FALLOC_FL_KEEP_SIZE);
      case 6:
        return allocate(FALLOC_FL_ZERO_RANGE | (random_.chance(1, 2) ? FALLOC_FL_KEEP_SIZE : 0));
      case 7:
        return seek();
      case 8:
        must(volume_->run(volume_->operations().fsync(file_, false)));
        return;
      case 9:
        if (random_.chance(1, 4)) remount();
        return;
      default:
        return write();
    }
  }

  void write() {
    std::uint64_t offset = random_offset();
    std::uint64_t length = random_length();
    const bool direct = random_.chance(1, 4);
    if (direct && random_.chance(3, 4)) {
      align(offset);
      align(length);
    }
    length = std::min(length, volume_->data().max_file_bytes() - offset);
    AlignedBuffer data(length);
    for (std::byte& byte : data.span())
      byte = static_cast<std::byte>(random_.next());
    Operations::WriteHow how;
    how.flags = direct ? O_DIRECT : 0;
    how.write_back = !direct && random_.chance(1, 6);
    INFO("write " << length << " bytes at " << offset << (direct ? ", direct" : ""));
    REQUIRE(must(volume_->run(volume_->operations().write(file_, offset, data.span(), how))) == length);
    model_.write(offset, data.span());
  }

  void truncate() {
    std::uint64_t size = random_.chance(1, 8) ? 0 : random_offset();
    INFO("truncate to " << size);
    AttributeChange change;
    change.size_bytes = size;
    must(volume_->run(volume_->operations().set_attributes(file_, change, {})));
    model_.truncate(size);
  }

  void punch() {
    std::uint64_t offset = random_offset();
    std::uint64_t length = random_.chance(1, 10) ? volume_->data().max_file_bytes() - offset : random_length();
    if (random_.chance(1, 3)) align(offset);
    length = std::min(length, volume_->data().max_file_bytes() - offset);
    INFO("punch " << length << " bytes at " << offset);
    must(volume_->run(
        volume_->operations().fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)));
    model_.punch(offset, length);
  }

  void allocate(int mode) {
    const std::uint64_t offset = random_offset();
    const std::uint64_t length = random_length();
    INFO("fallocate mode " << mode << ", " << length << " bytes at " << offset);
    must(volume_->run(volume_->operations().fallocate(file_, mode, offset, length)));
    if ((mode & FALLOC_FL_ZERO_RANGE) != 0) model_.zero(offset, offset + length);
    model_.allocate(offset, length, (mode & FALLOC_FL_KEEP_SIZE) != 0);
  }

  void seek() {
    for (int i = 0; i < 4; ++i) {
      const std::uint64_t offset = random_offset();
      for (bool want_data : {false, true}) {
        auto found = volume_->run(volume_->operations().seek(file_, offset, want_data ? SEEK_DATA : SEEK_HOLE));
        auto expected = model_.seek(offset, want_data);
        INFO("seek " << (want_data ? "data" : "hole") << " from " << offset);
        REQUIRE(found.has_value() == expected.has_value());
        if (expected)
          REQUIRE(*found == *expected);
        else
          REQUIRE(found.error().code() == ENXIO);
      }
    }
  }

  void compare(std::uint64_t offset, std::size_t length) {
    INFO("read " << length << " bytes at " << offset << ", size " << model_.size());
    auto found = volume_->read(file_, offset, length);
    auto expected = model_.read(offset, length);
    REQUIRE(found.size() == expected.size());
    auto [at, unused] = std::mismatch(found.begin(), found.end(), expected.begin());
    INFO("first difference at " << offset + static_cast<std::uint64_t>(at - found.begin()));
    REQUIRE(at == found.end());
  }

  /// Every data segment, and that there is nothing between them.
  void compare_everything() {
    REQUIRE(must(volume_->run(volume_->operations().get_attributes(file_))).size_bytes == model_.size());
    for (std::uint64_t offset = 0;;) {
      auto expected = model_.seek(offset, true);
      auto data = volume_->run(volume_->operations().seek(file_, offset, SEEK_DATA));
      REQUIRE(data.has_value() == expected.has_value());
      if (!expected) break;
      REQUIRE(*data == *expected);
      auto hole = must(volume_->run(volume_->operations().seek(file_, *data, SEEK_HOLE)));
      REQUIRE(hole == model_.seek(*data, false));
      compare(*data, hole - *data);
      offset = hole;
    }
  }

  void check_blocks() {
    LockedInode inode = volume_->lock(file_, GlockMode::shared);
    REQUIRE(inode.is_stuffed() == model_.stuffed());
    REQUIRE(inode.dinode().blocks >= 1 + model_.data_blocks());
    if (model_.stuffed()) REQUIRE(inode.dinode().blocks == 1);
  }

  void remove() {
    must(volume_->run(volume_->operations().unlink(volume_->filesystem->root(), "file")));
    volume_->operations().forget(file_, ~std::uint64_t{0});
    volume_->run([](Filesystem& filesystem) -> Task<int> {
      co_await filesystem.reclaim_finished();
      co_return 0;
    }(*volume_->filesystem));
    REQUIRE(volume_->free_blocks() == free_at_first_);
    volume_->unmount();
    last_image_ = disk_.contents();
    REQUIRE(fsck_gfs2(last_image_) == "");
  }

  Story story_;
  Random random_;
  ondisk::Geometry geometry_;
  FileModel model_;
  SimulatedDisk disk_;
  DiskImage last_image_{0};
  std::unique_ptr<MountedVolume> volume_;
  BlockNo file_;
  std::uint64_t free_at_first_ = 0;
};

}  // namespace

TEST_CASE("a file does what its model does", "[file_data]") {
  std::uint64_t seed = number_from_environment("CORRAL_SEED", 20261123);
  for (std::uint32_t block_size : {512u, 1024u, 2048u, 4096u}) {
    for (bool journaled : {false, true}) {
      Story story{block_size, journaled, seed % 4 == 0 ? DataMode::writeback : DataMode::ordered, seed};
      INFO("block size " << block_size << ", journaled " << journaled << ", seed " << seed);
      Player(story).play(250);
      ++seed;
    }
  }
}
