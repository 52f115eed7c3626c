// Damaged and unreadable structures: an error that names them, no abort, no further damage.
#include "test/support/allocator_work.h"

using namespace corral;
using namespace corral::test;
using ondisk::BlockState;

namespace {

/// Changes a block of the image before it is mounted.
template <class T, class Change>
void damage(AllocatorImage& image, BlockNo block, std::size_t offset, Change change) {
  std::vector<std::byte> bytes(image.geometry.block_size());
  image.image.read(image.geometry.offset_bytes(block), bytes);
  change(ondisk::view<T>(std::span(bytes), offset));
  image.image.write(image.geometry.offset_bytes(block), bytes);
}

template <class Change>
void damage_header(AllocatorImage& image, std::size_t group, Change change) {
  damage<ondisk::ResourceGroup>(image, image.layout.groups[group].address, 0, [&](ondisk::ResourceGroup& header) {
    change(header);
    header.crc = ondisk::rgrp_crc(header);
  });
}

Task<Result<>> open_and_close(AllocatorMount& m) {
  auto opened = co_await m.open();
  co_await m.close();
  co_return opened;
}

Error open_error(const AllocatorImage& image) {
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image, [] {
    MountOptions options;
    options.quota = QuotaMode::account;
    return options;
  }());
  auto opened = under.run(open_and_close(mount));
  REQUIRE_FALSE(opened);
  return opened.error();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("allocator: a damaged group is an error once, and passed over from then on", "[fs][allocator]") {
  AllocatorImage image(1024, {40, 40});
  const std::string group = std::to_string(image.layout.groups[1].address.value);
  std::string expected;
  SECTION("free count") {
    damage_header(image, 1, [](auto& header) { header.free = 39; });
    expected = "39 free blocks and 0 dinodes, the bitmap 40 and 0";
  }
  SECTION("dinode count") {
    damage_header(image, 1, [](auto& header) {
      header.free = 39;
      header.dinodes = 1;
    });
    expected = "39 free blocks and 1 dinodes";
  }
  SECTION("crc") {
    damage_header(image, 1, [](auto&) {});
    damage<ondisk::ResourceGroup>(image, image.layout.groups[1].address, 0, [](auto& header) { header.skip = 1; });
    expected = "crc";
  }
  SECTION("type") {
    damage_header(image, 1, [](auto& header) { header.header.type = 4; });
    expected = "metadata type 4";
  }
  SECTION("place") {
    damage_header(image, 1, [](auto& header) { header.data0 = 5; });
    expected = "in the rindex";
  }
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m, std::string name, std::string text) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const BlockNo goal = m.layout.groups[1].first;
    const auto first = co_await take(m, {.goal = goal, .blocks = 5});
    CHECK_FALSE(first);
    if (!first) {
      CHECK(first.error().kind() == ErrorKind::corrupt);
      CHECK(contains(first.error().message(), name));
      CHECK(contains(first.error().message(), text));
    }
    CO_TRY(const auto second, co_await take(m, {.goal = goal, .blocks = 5}));
    CHECK(second.front() >= m.layout.groups[2].first);
    CHECK_FALSE(co_await m.allocator->prepare_release(std::vector<BlockNo>{goal}));
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount, group, expected)));
}

TEST_CASE("allocator: a damaged bitmap block is noticed before anything is allocated", "[fs][allocator]") {
  AllocatorImage image(512, {8000});
  damage<ondisk::MetaHeader>(image, image.layout.groups[1].address + 2, 0, [](auto& header) { header.magic = 0; });
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const auto taken = co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 5});
    CHECK((!taken && taken.error().kind() == ErrorKind::corrupt));
    CHECK(contains(taken.error().message(), std::to_string(m.layout.groups[1].address.value + 2)));
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: freeing what is not in use is a damage and changes nothing", "[fs][allocator]") {
  AllocatorImage image(1024, {400});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    CO_TRY(const auto taken, co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 10}));
    CO_TRY(const auto dinode, co_await take_dinode(m, {.goal = m.layout.groups[1].first}));
    CO_TRY(const SpaceFigures before, co_await m.allocator->figures());
    {
      CO_TRY(Release release, co_await m.allocator->prepare_release(std::vector<Extent>{{taken.front(), 40}}));
      CO_TRY(Transaction transaction, co_await m.journal->begin({.blocks = release.log_blocks()}));
      const auto freed = release.free_blocks(transaction, {taken.front(), 11}, {});
      CHECK((!freed && freed.error().kind() == ErrorKind::corrupt));
      CHECK(contains(freed.error().message(), std::to_string(taken.back().value + 1)));
      CHECK_FALSE(release.free_dinode(transaction, dinode.block, {}));  // still linked
      CHECK_FALSE(release.free_dinode(transaction, taken.front(), {}));
      CHECK_FALSE(release.set_unlinked(transaction, taken.front()));
      CHECK_FALSE(release.set_linked(transaction, dinode.block));
    }
    CO_TRY(const SpaceFigures after, co_await m.allocator->figures());
    CHECK(after.free_blocks == before.free_blocks);
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
  CHECK(take_census(under.disk.contents(), image.layout, image.geometry).counts.dinodes ==
        AllocatorLayout::kSystemDinodes + 1);
}

TEST_CASE("allocator: blocks in no group cannot be freed or asked for", "[fs][allocator]") {
  AllocatorImage image(1024, {40});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const auto& last = m.layout.groups.back();
    for (BlockNo block : {BlockNo(0), last.address, last.first + last.blocks, BlockNo(~std::uint64_t{0})}) {
      const auto release = co_await m.allocator->prepare_release(std::vector<BlockNo>{block});
      CHECK((!release && release.error().kind() == ErrorKind::corrupt));
      const auto state = co_await m.allocator->state_of(block);
      CHECK((!state && state.error().code() == ESTALE));
    }
    const auto across = co_await m.allocator->prepare_release(std::vector<Extent>{{last.first, last.blocks + 1}});
    CHECK((!across && across.error().kind() == ErrorKind::corrupt));
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: a group that cannot be read is passed over with a warning", "[fs][allocator]") {
  AllocatorImage image(1024, {40, 40});
  SimulatedVolume under(image.image);
  SimulatedFault fault;
  fault.operations = SimulatedFault::reads;
  fault.begin_bytes = image.geometry.offset_bytes(image.layout.groups[1].address);
  fault.end_bytes = fault.begin_bytes + 1024;
  under.device.add_fault(fault);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const BlockNo goal = m.layout.groups[1].first;
    CO_TRY(const auto taken, co_await take(m, {.goal = goal, .blocks = 5}));
    CHECK(taken.front() >= m.layout.groups[2].first);
    CO_TRY_VOID(co_await take(m, {.goal = goal, .blocks = 5}));
    CHECK(m.under.log.lines.size() == 1);
    const auto release = co_await m.allocator->prepare_release(std::vector<BlockNo>{goal});
    CHECK((!release && release.error().kind() == ErrorKind::device));
    // All that can be read is full, but the volume is not: that is no ENOSPC.
    for (;;) {
      const auto more = co_await take(m, {.blocks = 1});
      if (more) continue;
      CHECK(more.error().code() == EIO);
      CHECK(more.error().kind() == ErrorKind::device);
      break;
    }
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount)));
}

TEST_CASE("allocator: a damaged rindex refuses the mount", "[fs][allocator]") {
  using Entry = ondisk::ResourceGroupIndexEntry;
  AllocatorImage image(1024, {40, 40});
  const BlockNo entries = image.layout.rindex + AllocatorLayout::kSystemDinodes;
  SECTION("entry") {
    damage<Entry>(image, entries, sizeof(Entry), [](Entry& entry) { entry.length = 7; });
    CHECK(contains(open_error(image).message(), "rindex entry 1"));
  }
  SECTION("overlap") {
    const auto& group = image.layout.groups[1];
    damage<Entry>(image, entries, 2 * sizeof(Entry), [&](Entry& entry) {
      entry.addr = group.address.value + 5;
      entry.data0 = group.address.value + 6;
    });
    CHECK(contains(open_error(image).message(), "overlap"));
  }
  SECTION("size") {
    damage<ondisk::Dinode>(image, image.layout.rindex, 0, [](ondisk::Dinode& inode) { inode.size = 100; });
    CHECK(contains(open_error(image).message(), "rindex: 100 bytes"));
  }
  SECTION("empty") {
    damage<ondisk::Dinode>(image, image.layout.rindex, 0, [](ondisk::Dinode& inode) { inode.size = 0; });
    CHECK(contains(open_error(image).message(), "rindex: 0 bytes"));
  }
  SECTION("hole") {
    damage<ondisk::be64>(image, image.layout.rindex, sizeof(ondisk::Dinode),
                         [](ondisk::be64& pointer) { pointer = std::uint64_t{0}; });
    CHECK(contains(open_error(image).message(), "hole"));
  }
}

TEST_CASE("allocator: a block that is in use although it is marked free is not given out", "[fs][allocator]") {
  AllocatorImage image(1024, {40, 40});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto any = [](std::span<const std::byte>, BlockNo, const ondisk::Geometry&) -> Result<> { return {}; };
  auto scenario = [](AllocatorMount& m, BlockCheck check) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    const BlockNo victim = m.layout.groups[1].first + 2;
    GlockRef glock = m.glocks.get(GlockType::inode, victim.value);
    CO_TRY(BlockRef held, co_await m.cache.read(glock->blocks(), victim, check));
    const auto taken = co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 5});
    CHECK((!taken && taken.error().kind() == ErrorKind::corrupt));
    CHECK(contains(taken.error().message(), fmt::format("block {} is marked free but in use", victim.value)));
    held = nullptr;
    m.cache.drop(glock->blocks());
    // The group is passed over from then on.
    CO_TRY(const auto others, co_await take(m, {.goal = m.layout.groups[1].first, .blocks = 5}));
    CHECK(others.front() >= m.layout.groups[2].first);
    co_return co_await m.unmount();
  };
  require(under.run(scenario(mount, any)));
}

TEST_CASE("allocator: damaged statfs and quota files refuse the mount", "[fs][allocator]") {
  AllocatorImage image(1024, {40});
  const BlockNo changes = image.layout.journal - 2;
  SECTION("statfs size") {
    damage<ondisk::Dinode>(image, image.layout.statfs, 0, [](ondisk::Dinode& inode) { inode.size = 23; });
    CHECK(contains(open_error(image).message(), "statfs"));
  }
  SECTION("statfs_change is something else") {
    damage<ondisk::MetaHeader>(image, image.layout.statfs_change, 0, [](auto& header) { header.type = 7; });
    CHECK(contains(open_error(image).message(), std::to_string(image.layout.statfs_change.value)));
  }
  SECTION("quota_change size") {
    damage<ondisk::Dinode>(image, image.layout.quota_change, 0, [](ondisk::Dinode& inode) { inode.size = 2047; });
    CHECK(contains(open_error(image).message(), "quota_change"));
  }
  SECTION("quota_change block") {
    damage<ondisk::MetaHeader>(image, changes, 0, [](auto& header) { header.type = 7; });
    CHECK(contains(open_error(image).message(), "quota change"));
  }
  SECTION("two slots of one user") {
    struct Slots {
      std::array<ondisk::QuotaChange, 2> slots;
    };
    damage<Slots>(image, changes, sizeof(ondisk::MetaHeader), [](Slots& both) {
      for (ondisk::QuotaChange& slot : both.slots) {
        slot.change = 5;
        slot.flags = ondisk::kQuotaChangeUser;
        slot.id = 77;
      }
    });
    CHECK(contains(open_error(image).message(), "user 77 has two slots"));
  }
}

TEST_CASE("allocator: a read-only mount answers, but gives nothing out", "[fs][allocator]") {
  AllocatorImage image(1024, {40});
  SimulatedVolume under(image.image);
  AllocatorMount mount(under, image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    m.volume.journal = nullptr;
    Allocator::SystemFiles files;
    CO_TRY(files.rindex, m.inodes.get(m.layout.rindex, m.layout.rindex.value));
    CO_TRY(files.statfs, m.inodes.get(m.layout.statfs, m.layout.statfs.value));
    CO_TRY(files.quota, m.inodes.get(m.layout.quota, m.layout.quota.value));
    CO_TRY_VOID(co_await m.allocator->open(std::move(files)));
    CO_TRY(const SpaceFigures figures, co_await m.allocator->figures());
    CHECK(figures.free_blocks >= 40);
    CO_TRY(const BlockState state, co_await m.allocator->state_of(m.layout.rindex));
    CHECK(state == BlockState::dinode);
    CO_TRY(const QuotaFigures quota, co_await m.allocator->quota_of(QuotaKind::user, 5));
    CHECK(quota.used == 0);
    const auto allotted = co_await m.allocator->allot({.blocks = 1});
    CHECK((!allotted && allotted.error().code() == EROFS));
    const auto release = co_await m.allocator->prepare_release(std::vector<BlockNo>{m.layout.rindex});
    CHECK((!release && release.error().code() == EROFS));
    const auto limits = co_await m.allocator->set_quota_limits(QuotaKind::user, 5, 1, 1);
    CHECK((!limits && limits.error().code() == EROFS));
    co_await m.close();
    co_return Result<>{};
  };
  require(under.run(scenario(mount)));
}
