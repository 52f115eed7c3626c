// Block mapping against a model: what allocation costs, what it gives, and that everything comes back.
#include <map>

#include "base/random.h"
#include "fs/tree_node.h"
#include "test/support/mounted_volume.h"

using namespace corral;
using namespace corral::test;

namespace {

/// A file's tree, driven without contents.
class TreeOfFile {
 public:
  TreeOfFile(MountedVolume& volume, BlockNo file) : volume_(volume), inode_(volume.lock(file)) {
    must(volume_.run(unstuff()));
  }

  std::uint64_t di_blocks() const { return inode_.dinode().blocks; }
  std::uint32_t height() const { return inode_.dinode().height; }
  const std::map<std::uint64_t, BlockNo>& blocks() const { return blocks_; }
  MetadataTree::Cost cost(std::uint64_t first, std::uint64_t count) {
    return must(volume_.run(tree().allocation_cost(inode_, FileBlock(first), count)));
  }

  /// The journal checks that no more is logged than the cost says, the allotment that no more is taken.
  void allocate(std::uint64_t first, std::uint64_t count) {
    const MetadataTree::Cost expected = cost(first, count);
    std::uint64_t missing = 0;
    for (std::uint64_t block = first; block < first + count; ++block)
      missing += !blocks_.contains(block);
    REQUIRE((expected.new_blocks == 0) == (missing == 0));
    if (missing == 0) return;
    const std::uint64_t before = di_blocks();
    std::uint64_t reported = 0;
    must(volume_.run(allocate(FileBlock(first), count, expected, reported)));
    REQUIRE(reported == missing);
    REQUIRE(di_blocks() - before == expected.new_blocks);
    REQUIRE(cost(first, count).new_blocks == 0);
  }

  void free(std::uint64_t first, std::uint64_t count) {
    must(volume_.run(tree().free_range(inode_, FileBlock(first), count)));
    const std::uint64_t end = count > MetadataTree::kToEnd - first ? MetadataTree::kToEnd : first + count;
    blocks_.erase(blocks_.lower_bound(first), blocks_.lower_bound(end));
  }

  /// The run at `first` is what the model says, and as long as it can be.
  std::uint64_t check_run(std::uint64_t first, std::uint64_t limit) {
    MappedRun run = must(volume_.run(tree().map(inode_, FileBlock(first), limit)));
    REQUIRE(run.first == FileBlock(first));
    REQUIRE(run.length >= 1);
    REQUIRE(run.length <= limit);
    auto place = blocks_.lower_bound(first);
    std::uint64_t expected = 0;
    if (place == blocks_.end() || place->first != first) {
      REQUIRE(run.is_hole());
      expected = place == blocks_.end() ? limit : std::min(limit, place->first - first);
    } else {
      REQUIRE(run.start == place->second);
      for (; place != blocks_.end() && place->first == first + expected && expected < limit &&
             place->second == run.start + expected;
           ++place)
        ++expected;
    }
    REQUIRE(run.length == expected);
    return run.length;
  }

  void check_seek(std::uint64_t first, std::uint64_t end) {
    auto data = must(volume_.run(tree().seek(inode_, FileBlock(first), FileBlock(end), true)));
    auto place = blocks_.lower_bound(first);
    if (place == blocks_.end() || place->first >= end)
      REQUIRE_FALSE(data.has_value());
    else
      REQUIRE(data == FileBlock(place->first));
    std::uint64_t hole = first;
    while (hole < end && blocks_.contains(hole))
      ++hole;
    auto found = must(volume_.run(tree().seek(inode_, FileBlock(first), FileBlock(end), false)));
    if (hole == end)
      REQUIRE_FALSE(found.has_value());
    else
      REQUIRE(found == FileBlock(hole));
  }

  void release() { inode_.release(); }

 private:
  MetadataTree& tree() { return volume_.filesystem->tree(); }
  Journal& journal() { return *volume_.filesystem->journal(); }

  Task<Result<>> unstuff() {
    CO_TRY(Transaction transaction, co_await journal().begin({.blocks = 1, .revokes = 0}));
    Allotment none;
    co_return co_await tree().unstuff(transaction, none, inode_, {});
  }

  Task<Result<>> allocate(FileBlock first, std::uint64_t count, MetadataTree::Cost expected, std::uint64_t& reported) {
    AllotmentRequest request;
    request.goal = MetadataTree::goal(inode_);
    request.blocks = expected.new_blocks;
    request.owner = ownership_of(inode_.dinode());
    CO_TRY(Allotment allotment, co_await volume_.filesystem->allocator().allot(request));
    CO_TRY(Transaction transaction,
           co_await journal().begin({.blocks = expected.log_blocks + allotment.log_blocks(), .revokes = 0}));
    co_return co_await tree().allocate(transaction, allotment, inode_, first, count,
                                       [&](FileBlock block, Extent extent) {
                                         for (std::uint32_t i = 0; i < extent.length; ++i)
                                           blocks_.emplace(block.value + i, extent.start + i);
                                         reported += extent.length;
                                       });
  }

  MountedVolume& volume_;
  LockedInode inode_;
  std::map<std::uint64_t, BlockNo> blocks_;
};

/// Near 0, near a change of height, or near the far end.
std::uint64_t random_block(Random& random, const ondisk::Geometry& geometry) {
  const std::uint64_t most = (std::uint64_t{1} << 63) >> geometry.block_shift();
  const std::uint64_t near = random.below(geometry.indirect_pointers() * 3);
  switch (random.below(6)) {
    case 0:
      return most - 1000 - near;
    case 1:
    case 2: {
      auto height = static_cast<std::uint32_t>(random.between(1, geometry.max_height() - 1));
      std::uint64_t capacity = geometry.height_capacity_blocks(height);
      return capacity > near / 2 ? capacity - near / 2 : capacity;
    }
    default:
      return near;
  }
}

}  // namespace

TEST_CASE("blocks cost what they take, are where they were put, and all come back", "[metadata_tree]") {
  for (std::uint32_t block_size : {512u, 1024u, 2048u, 4096u}) {
    INFO("block size " << block_size);
    const ondisk::Geometry geometry(block_size);
    SimulatedDisk disk(formatted_volume(block_size, 64));
    MountedVolume volume(disk);
    Random random(block_size);
    BlockNo file = volume.create("file");
    const std::uint64_t free_before = volume.free_blocks();
    {
      TreeOfFile tree(volume, file);
      for (int step = 0; step < 300; ++step) {
        INFO("step " << step);
        std::uint64_t first = random_block(random, geometry);
        std::uint64_t count = random.chance(1, 4) ? random.between(1, 600) : random.between(1, 20);
        if (random.chance(1, 3))
          tree.free(first, random.chance(1, 20) ? MetadataTree::kToEnd : count * 4);
        else
          tree.allocate(first, count);
        tree.check_run(first, random.between(1, 5000));
        tree.check_run(random_block(random, geometry), random.between(1, 1'000'000));
        tree.check_seek(first, first + 3000);
      }
      tree.free(0, MetadataTree::kToEnd);
      REQUIRE(tree.di_blocks() == 1);
      REQUIRE(tree.check_run(5, MetadataTree::kToEnd - 5) == MetadataTree::kToEnd - 5);
      tree.release();
    }
    REQUIRE(volume.free_blocks() == free_before);
    volume.unmount();
  }
}

TEST_CASE("a run goes on across indirect blocks", "[metadata_tree]") {
  SimulatedDisk disk(formatted_volume(512, 64));
  MountedVolume volume(disk);
  TreeOfFile tree(volume, volume.create("file"));
  tree.allocate(0, 2000);
  std::uint64_t runs = 0;
  for (std::uint64_t block = 0; block < 2000; ++runs)
    block += tree.check_run(block, 2000 - block);
  // One indirect block lies before the data of each 61 blocks at the worst.
  REQUIRE(runs <= 2000 / 61 + 3);
  tree.free(10, 1980);
  REQUIRE(tree.check_run(10, 5000) == 1980);
  tree.release();
  volume.unmount();
}

TEST_CASE("an empty tree of any height costs nothing to raise", "[metadata_tree]") {
  const ondisk::Geometry geometry(4096);
  SimulatedDisk disk(formatted_volume(4096, 64));
  MountedVolume volume(disk);
  TreeOfFile tree(volume, volume.create("file"));
  const std::uint64_t last = ((std::uint64_t{1} << 63) >> geometry.block_shift()) - 1;
  REQUIRE(tree.cost(last, 1).new_blocks == geometry.max_height());
  tree.allocate(last, 1);
  REQUIRE(tree.height() == geometry.max_height());
  tree.free(last, 1);
  REQUIRE(tree.di_blocks() == 1);
  tree.release();
  volume.unmount();
}

TEST_CASE("a file of many resource groups and indirect blocks is freed in steps", "[metadata_tree]") {
  SimulatedDisk disk(formatted_volume(1024, 200));
  MountedVolume volume(disk);
  const BlockNo file = volume.create("file");
  const std::uint64_t free_before = volume.free_blocks();
  TreeOfFile tree(volume, file);
  for (std::uint64_t block = 0; block < 120'000; block += 1500)
    tree.allocate(block, 1500);
  const std::uint64_t transactions_before = volume.filesystem->journal()->running_set();
  tree.free(0, MetadataTree::kToEnd);
  REQUIRE(tree.di_blocks() == 1);
  REQUIRE(volume.filesystem->journal()->running_set() >= transactions_before);
  tree.release();
  REQUIRE(volume.free_blocks() == free_before);
  volume.unmount();
}

namespace {

/// A file of height 2 and more on a volume, with a hand on its blocks.
class Damage {
 public:
  explicit Damage(std::uint32_t block_size) : geometry_(block_size), disk_(formatted_volume(block_size, 64)) {
    MountedVolume volume(disk_);
    file_ = volume.create("file");
    std::vector<std::byte> data(geometry_.block_size() * 600, std::byte{7});
    must(volume.run(volume.operations().write(file_, 0, data, {})));
    volume.unmount();
    image_ = disk_.contents();
  }

  const ondisk::Geometry& geometry() const { return geometry_; }
  BlockNo file() const { return file_; }
  std::uint64_t dinode_pointer(std::uint32_t index) { return pointer(file_, sizeof(ondisk::Dinode), index); }
  std::uint64_t indirect_pointer(BlockNo block, std::uint32_t index) {
    return pointer(block, sizeof(ondisk::MetaHeader), index);
  }
  void set_pointer(BlockNo block, std::uint32_t index, std::uint64_t value) {
    std::size_t header = block == file_ ? sizeof(ondisk::Dinode) : sizeof(ondisk::MetaHeader);
    std::vector<std::byte> bytes = load(block);
    ondisk::pointers(std::span(bytes), header)[index] = value;
    image_.write(geometry_.offset_bytes(block), bytes);
  }
  template <class Change>
  void change_dinode(Change change) {
    std::vector<std::byte> bytes = load(file_);
    change(ondisk::view<ondisk::Dinode>(std::span(bytes)));
    image_.write(geometry_.offset_bytes(file_), bytes);
  }

  /// Reading all of the damaged file, and freeing it, fails with a message that names the inode.
  void must_be_found() {
    SimulatedDisk disk(image_);
    MountedVolume volume(disk);
    file_ = volume.find("file");
    AlignedBuffer buffer(geometry_.block_size() * 600);
    must_name_inode(volume.run(volume.operations().read(file_, 0, buffer.span())));
    end(volume);
    must_not_be_freed();
  }
  void must_not_be_freed() {
    SimulatedDisk disk(image_);
    MountedVolume volume(disk);
    file_ = volume.find("file");
    AttributeChange change;
    change.size_bytes = 0;
    must_name_inode(volume.run(volume.operations().set_attributes(file_, change, {})));
    end(volume);
  }

 private:
  template <class T>
  void must_name_inode(const Result<T>& result) {
    REQUIRE_FALSE(result.has_value());
    INFO(result.error().message());
    REQUIRE(result.error().code() == EIO);
    REQUIRE(result.error().kind() == ErrorKind::corrupt);
    REQUIRE(result.error().message().find(fmt::format("inode {}", file_.value)) != std::string::npos);
  }
  /// Unmounting tells of a withdraw, or is clean.
  void end(MountedVolume& volume) {
    auto ended = volume.run(volume.filesystem->unmount());
    REQUIRE(ended.has_value() != volume.filesystem->volume().withdrawn);
  }

  std::vector<std::byte> load(BlockNo block) const {
    std::vector<std::byte> bytes(geometry_.block_size());
    image_.read(geometry_.offset_bytes(block), bytes);
    return bytes;
  }
  std::uint64_t pointer(BlockNo block, std::size_t header, std::uint32_t index) const {
    std::vector<std::byte> bytes = load(block);
    return ondisk::pointers(std::span<const std::byte>(bytes), header)[index];
  }

  ondisk::Geometry geometry_;
  SimulatedDisk disk_;
  DiskImage image_{0};
  BlockNo file_;
};

}  // namespace

TEST_CASE("a damaged tree is found, named, and not made worse", "[metadata_tree]") {
  Damage damage(512);
  const BlockNo first(damage.dinode_pointer(0));
  SECTION("a pointer in the dinode beyond the volume") {
    damage.set_pointer(damage.file(), 1, std::uint64_t{1} << 60);
    damage.must_be_found();
  }
  SECTION("a pointer in the dinode to the superblock") {
    damage.set_pointer(damage.file(), 0, damage.geometry().superblock().value);
    damage.must_be_found();
  }
  SECTION("a pointer to data beyond the volume") {
    damage.set_pointer(first, 3, (64u << 20) / 512);
    damage.must_be_found();
  }
  SECTION("a pointer to data at the dinode itself") {
    damage.set_pointer(first, 3, damage.file().value);
    damage.must_be_found();
  }
  SECTION("an indirect block that leads to data that is none") {
    damage.set_pointer(damage.file(), 0, damage.indirect_pointer(first, 0));
    damage.must_be_found();
  }
  SECTION("a height one too great") {
    damage.change_dinode([](ondisk::Dinode& dinode) { dinode.height = static_cast<std::uint16_t>(dinode.height + 1); });
    damage.must_be_found();
  }
  SECTION("a cycle") {
    damage.change_dinode([](ondisk::Dinode& dinode) { dinode.height = 4; });
    damage.set_pointer(first, 0, first.value);
    damage.must_be_found();
  }
}

TEST_CASE("a block that is used twice is not freed twice", "[metadata_tree]") {
  Damage damage(512);
  const BlockNo first(damage.dinode_pointer(0));
  SECTION("by neighbours") {
    damage.set_pointer(first, 5, damage.indirect_pointer(first, 4));
  }
  SECTION("far away") {
    damage.set_pointer(first, 5, damage.indirect_pointer(BlockNo(damage.dinode_pointer(3)), 4));
  }
  SECTION("an indirect block") {
    damage.set_pointer(damage.file(), 1, first.value);
  }
  damage.must_not_be_freed();
}
