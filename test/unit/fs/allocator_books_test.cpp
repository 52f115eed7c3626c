// What is counted beside the bitmaps: statfs and quota.
#include <limits>
#include <map>

#include "test/support/allocator_work.h"

using namespace corral;
using namespace corral::test;

namespace {

constexpr Ownership kAlice{.uid = 1000, .gid = 100};
constexpr Ownership kBob{.uid = 1001, .gid = 100};

MountOptions with_quota(QuotaMode mode) {
  MountOptions options;
  options.quota = mode;
  return options;
}

template <class T>
T from_disk(const SimulatedVolume& under, const ondisk::Geometry& geometry, BlockNo block, std::size_t offset) {
  std::vector<std::byte> bytes(geometry.block_size());
  under.disk.contents().read(geometry.offset_bytes(block), bytes);
  return ondisk::view<T>(std::span<const std::byte>(bytes), offset);
}

/// Runs `scenario` on a mount of its own; unmounts unless the scenario did.
template <class Scenario, class... Rest>
void run_mounted(SimulatedVolume& under, const AllocatorImage& image, const MountOptions& options, Scenario scenario,
                 Rest&&... rest) {
  AllocatorMount mount(under, image, options);
  auto whole = [](AllocatorMount& m, Task<Result<>> inner) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    CO_TRY_VOID(co_await inner);
    co_return co_await m.unmount();
  };
  require(under.run(whole(mount, scenario(mount, std::forward<Rest>(rest)...))));
}

Task<Result<std::int64_t>> used_by(AllocatorMount& m, QuotaKind kind, std::uint32_t id) {
  CO_TRY(const QuotaFigures figures, co_await m.allocator->quota_of(kind, id));
  co_return figures.used;
}

}  // namespace

TEST_CASE("allocator: this node's statfs changes stand in its file and in the log headers until they are synced",
          "[fs][allocator][statfs]") {
  AllocatorImage image(1024, {4000});
  SimulatedVolume under(image.image);
  run_mounted(under, image, {}, [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await take(m, {.blocks = 100}));
    CO_TRY_VOID(co_await take_dinode(m, {}));
    LogHeaderExtras extras = m.allocator->header_extras();
    CHECK(extras.statfs_inode == m.layout.statfs_change);
    CHECK(extras.quota_inode == m.layout.quota_change);
    CHECK(extras.local_total == 0);
    CHECK(extras.local_free == -101);
    CHECK(extras.local_dinodes == 1);
    CO_TRY(const SpaceFigures before, co_await m.allocator->figures());
    CO_TRY_VOID(co_await m.allocator->sync_statfs());
    extras = m.allocator->header_extras();
    CHECK(extras.local_free == 0);
    CHECK(extras.local_dinodes == 0);
    CO_TRY(const SpaceFigures after, co_await m.allocator->figures());
    CHECK(after.free_blocks == before.free_blocks);
    CHECK(after.dinodes == before.dinodes);
    co_return co_await m.journal->flush();
  });
  const auto census = take_census(under.disk.contents(), image.layout, image.geometry);
  const auto master =
      from_disk<ondisk::StatfsChange>(under, image.geometry, image.layout.statfs, sizeof(ondisk::Dinode));
  CHECK(master.free == census.counts.free);
  CHECK(master.dinodes == census.counts.dinodes);
  const auto local =
      from_disk<ondisk::StatfsChange>(under, image.geometry, image.layout.statfs_change, sizeof(ondisk::Dinode));
  CHECK(local.free == 0);
}

TEST_CASE("allocator: statfs changes beyond statfs_percent are synced at once", "[fs][allocator][statfs]") {
  AllocatorImage image(1024, {1000});
  SimulatedVolume under(image.image);
  MountOptions options;
  options.statfs_percent = 10;
  run_mounted(under, image, options, [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await take(m, {.blocks = 50}));
    co_await m.under.executor.yield();
    CHECK(m.allocator->header_extras().local_free == -50);
    CO_TRY_VOID(co_await take(m, {.blocks = 60}));
    co_await m.under.executor.yield();  // the worker's turn
    CHECK(m.allocator->header_extras().local_free == 0);
    co_return Result<>{};
  });
}

TEST_CASE("allocator: odd statfs files are shown within bounds", "[fs][allocator][statfs]") {
  AllocatorImage image(1024, {1000});
  std::vector<std::byte> bytes(1024);
  image.image.read(image.geometry.offset_bytes(image.layout.statfs), bytes);
  auto& counts = ondisk::view<ondisk::StatfsChange>(std::span(bytes), sizeof(ondisk::Dinode));
  counts.total = 500;
  counts.free = 700;
  counts.dinodes = std::numeric_limits<std::uint64_t>::max();  // -1
  image.image.write(image.geometry.offset_bytes(image.layout.statfs), bytes);
  SimulatedVolume under(image.image);
  run_mounted(under, image, {}, [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY(const SpaceFigures figures, co_await m.allocator->figures());
    CHECK(figures.total_blocks == 500);
    CHECK(figures.free_blocks == 500);
    CHECK(figures.dinodes == 0);
    co_return Result<>{};
  });
}

TEST_CASE("allocator: quota sums follow every charge, also of the largest ids", "[fs][allocator][quota]") {
  const std::uint32_t block_size = GENERATE(512u, 1024u, 4096u);
  AllocatorImage image(block_size, {6000});
  SimulatedVolume under(image.image);
  struct Model {
    std::map<std::pair<QuotaKind, std::uint32_t>, std::int64_t> used;
    void charge(Ownership owner, std::int64_t blocks) {
      used[{QuotaKind::user, owner.uid}] += blocks;
      used[{QuotaKind::group, owner.gid}] += blocks;
    }
  } model;
  auto check = [](AllocatorMount& m, const Model& expected) -> Task<Result<>> {
    for (const auto& [who, blocks] : expected.used) {
      CO_TRY(const std::int64_t used, co_await used_by(m, who.first, who.second));
      CHECK(used == blocks);
    }
    co_return Result<>{};
  };
  auto work = [](AllocatorMount& m, Model& expected, decltype(check)& check_all) -> Task<Result<>> {
    Random random(7);
    const std::vector<std::uint32_t> ids = {0,  1,    22,       23,
                                            46, 1000, 1u << 31, std::numeric_limits<std::uint32_t>::max()};
    struct Held {
      Ownership owner;
      std::vector<BlockNo> blocks;
    };
    std::vector<Held> held;
    for (int step = 0; step < 150; ++step) {
      const Ownership owner{.uid = ids[random.below(ids.size())], .gid = ids[random.below(ids.size())]};
      const std::uint64_t choice = random.below(10);
      if (choice < 5) {
        const auto count = static_cast<std::uint32_t>(random.between(1, 20));
        CO_TRY(auto blocks, co_await take(m, {.blocks = count, .owner = owner}));
        held.push_back({owner, std::move(blocks)});
        expected.charge(owner, count);
      } else if (choice < 7 && !held.empty()) {
        Held gone = std::move(held[random.below(held.size())]);
        std::erase_if(held, [](const Held& item) { return item.blocks.empty(); });
        const auto count = static_cast<std::int64_t>(gone.blocks.size());
        CO_TRY_VOID(co_await give_back(m, std::move(gone.blocks), gone.owner));
        expected.charge(gone.owner, -count);
      } else if (choice < 8 && !held.empty()) {
        Held& moved = held[random.below(held.size())];
        CO_TRY_VOID(co_await m.allocator->check_quota(owner, moved.blocks.size()));
        CO_TRY(Transaction transaction, co_await m.journal->begin({.blocks = m.allocator->quota_log_blocks()}));
        CO_TRY_VOID(co_await m.allocator->transfer_quota(transaction, moved.owner, owner, moved.blocks.size()));
        expected.charge(moved.owner, -static_cast<std::int64_t>(moved.blocks.size()));
        expected.charge(owner, static_cast<std::int64_t>(moved.blocks.size()));
        moved.owner = owner;
      } else if (choice < 9) {
        CO_TRY_VOID(co_await m.allocator->sync_quota());
      }
      CO_TRY_VOID(co_await check_all(m, expected));
    }
    // System files are charged to nobody.
    CO_TRY_VOID(co_await take(m, {.blocks = 10, .owner = {.charged = false}}));
    CHECK(m.allocator->header_extras().quota_inode == m.layout.quota_change);
    co_return co_await check_all(m, expected);
  };
  run_mounted(under, image, with_quota(QuotaMode::account), work, model, check);
  const auto quota = from_disk<ondisk::Dinode>(under, image.geometry, image.layout.quota, 0);
  CHECK(quota.size == ((std::uint64_t{1} << 33)) * sizeof(ondisk::Quota));
  const auto change =
      from_disk<ondisk::QuotaChange>(under, image.geometry, image.layout.journal - 2, sizeof(ondisk::MetaHeader));
  CHECK(change.change == 0);
  run_mounted(under, image, with_quota(QuotaMode::account), check, model);
  const auto census = take_census(under.disk.contents(), image.layout, image.geometry);
  const auto master =
      from_disk<ondisk::StatfsChange>(under, image.geometry, image.layout.statfs, sizeof(ondisk::Dinode));
  CHECK(master.free == census.counts.free);
}

TEST_CASE("allocator: quota changes that a mount left are counted by the next one", "[fs][allocator][quota]") {
  AllocatorImage image(1024, {1000});
  SimulatedVolume under(image.image);
  auto leave = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.open());
    CO_TRY_VOID(co_await take(m, {.blocks = 40, .owner = kAlice}));
    CO_TRY_VOID(co_await take(m, {.blocks = 2, .owner = kBob}));
    CO_TRY_VOID(co_await m.journal->shut_down(true));
    co_await m.close();
    co_return Result<>{};
  };
  {
    AllocatorMount mount(under, image, with_quota(QuotaMode::account));
    require(under.run(leave(mount)));
  }
  auto check = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY(std::int64_t used, co_await used_by(m, QuotaKind::user, 1000));
    CHECK(used == 40);
    CO_TRY(used, co_await used_by(m, QuotaKind::group, 100));
    CHECK(used == 42);
    co_return Result<>{};
  };
  // With quota=off they are left alone.
  run_mounted(under, image, with_quota(QuotaMode::off), [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await take(m, {.blocks = 5, .owner = kAlice}));
    CO_TRY(const std::int64_t used, co_await used_by(m, QuotaKind::user, 1000));
    CHECK(used == 0);
    co_return Result<>{};
  });
  run_mounted(under, image, with_quota(QuotaMode::account), check);
  CHECK(std::ranges::count(under.log.lines, "found 3 quota changes") == 1);
  run_mounted(under, image, with_quota(QuotaMode::account), check);
}

TEST_CASE("allocator: every user and group with a record is reported, wherever it stands in the file",
          "[fs][allocator][quota]") {
  for (const std::uint32_t block_size : {4096u, 512u}) {
    AllocatorImage image(block_size, {8000});
    SimulatedVolume under(image.image);
    auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
      constexpr std::uint32_t kLast = ~std::uint32_t{0};
      CO_TRY_VOID(co_await take(m, {.blocks = 45, .owner = kAlice}));
      CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::user, 1000, 70, 60));
      CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::user, 1000, std::nullopt, 50));
      CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::user, 93, 9, std::nullopt));
      CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::group, kLast, std::nullopt, 8));
      CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::user, 70'000, 5, 5));
      CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::user, 70'000, 0, 0));
      CO_TRY_VOID(co_await take(m, {.blocks = 3, .owner = kAlice}));
      CO_TRY_VOID(co_await m.allocator->set_quota_usage(QuotaKind::group, 7, 12));
      CO_TRY(const auto records, co_await m.allocator->quota_records());
      std::string text;
      for (const QuotaRecord& record : records)
        text += fmt::format("{} {}: {} of {}, {}\n", record.kind == QuotaKind::user ? "user" : "group", record.id,
                            record.figures.used, record.figures.limit, record.figures.warn);
      CHECK(text ==
            "group 7: 12 of 0, 0\nuser 93: 0 of 9, 0\ngroup 100: 48 of 0, 0\nuser 1000: 48 of 70, 50\n"
            "group 4294967295: 0 of 0, 8\n");
      co_return Result<>{};
    };
    run_mounted(under, image, with_quota(QuotaMode::account), scenario);
  }
}

TEST_CASE("allocator: quota=on enforces limits to the block", "[fs][allocator][quota]") {
  AllocatorImage image(1024, {4000});
  SimulatedVolume under(image.image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::user, 1000, 50, 0));
    CO_TRY_VOID(co_await take(m, {.blocks = 45, .owner = kAlice}));
    const auto over = co_await take(m, {.blocks = 6, .owner = kAlice});
    CHECK((!over && over.error().code() == EDQUOT));
    {  // what is promised counts, and `wished` is cut to what the limit leaves
      CO_TRY(Allotment promised, co_await m.allocator->allot({.blocks = 2, .wished = 100, .owner = kAlice}));
      CHECK(promised.available() == 5);
      const auto none = co_await take(m, {.blocks = 1, .owner = kAlice});
      CHECK((!none && none.error().code() == EDQUOT));
    }
    CO_TRY(const auto last, co_await take(m, {.blocks = 5, .owner = kAlice}));
    const auto none = co_await take(m, {.blocks = 1, .owner = kAlice});
    CHECK((!none && none.error().code() == EDQUOT));
    const auto dinode = co_await take_dinode(m, {.owner = kAlice});
    CHECK((!dinode && dinode.error().code() == EDQUOT));
    const auto chown = co_await m.allocator->check_quota(kAlice, 1);
    CHECK((!chown && chown.error().code() == EDQUOT));
    CO_TRY_VOID(co_await m.allocator->sync_quota());
    CHECK_FALSE(co_await take(m, {.blocks = 1, .owner = kAlice}));

    // Another user of the group is free to go on; root may exceed the limit.
    CO_TRY_VOID(co_await take(m, {.blocks = 100, .owner = kBob}));
    CO_TRY_VOID(co_await take(m, {.blocks = 10, .owner = kAlice, .exempt_from_limits = true}));
    CO_TRY_VOID(co_await give_back(m, last, kAlice));
    CHECK_FALSE(co_await take(m, {.blocks = 1, .owner = kAlice}));  // 55 of 50

    CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::group, 100, 155, 0));
    CHECK_FALSE(co_await take(m, {.blocks = 1, .owner = kBob}));
    CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::group, 100, 156, 0));
    CO_TRY_VOID(co_await take(m, {.blocks = 1, .owner = kBob}));
    CHECK_FALSE(co_await take(m, {.blocks = 1, .owner = kBob}));
    CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::group, 100, 0, 0));
    co_return Result<>{};
  };
  run_mounted(under, image, with_quota(QuotaMode::on), scenario);
  CHECK(std::ranges::count(under.log.lines, "quota exceeded for user 1000") == 2);
  run_mounted(under, image, with_quota(QuotaMode::on), [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY(const QuotaFigures alice, co_await m.allocator->quota_of(QuotaKind::user, 1000));
    CHECK(alice.limit == 50);
    CHECK(alice.used == 55);
    CHECK_FALSE(co_await take(m, {.blocks = 1, .owner = kAlice}));
    co_return Result<>{};
  });
  run_mounted(under, image, with_quota(QuotaMode::account), [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await take(m, {.blocks = 1, .owner = kAlice}));
    CO_TRY(const std::int64_t used, co_await used_by(m, QuotaKind::user, 1000));
    CHECK(used == 56);
    co_return Result<>{};
  });
}

TEST_CASE("allocator: beyond the warning level a warning is logged now and then", "[fs][allocator][quota]") {
  AllocatorImage image(1024, {1000});
  SimulatedVolume under(image.image);
  run_mounted(under, image, with_quota(QuotaMode::on), [](AllocatorMount& m) -> Task<Result<>> {
    CO_TRY_VOID(co_await m.allocator->set_quota_limits(QuotaKind::group, 100, 0, 10));
    for (int i = 0; i < 20; ++i)
      CO_TRY_VOID(co_await take(m, {.blocks = 1, .owner = kAlice}));
    CHECK(m.under.log.lines == std::vector<std::string>{"quota warning for group 100"});
    co_await m.under.executor.sleep_for(std::chrono::seconds(11));
    CO_TRY_VOID(co_await take(m, {.blocks = 1, .owner = kAlice}));
    CHECK(m.under.log.lines.size() == 2);
    co_return Result<>{};
  });
}

TEST_CASE("allocator: a full quota_change file is synced to make room", "[fs][allocator][quota]") {
  AllocatorImage image(512, {8000}, 1024, 1);
  SimulatedVolume under(image.image);
  auto scenario = [](AllocatorMount& m) -> Task<Result<>> {
    for (std::uint32_t id = 0; id < 200; ++id)
      CO_TRY_VOID(co_await take(m, {.blocks = id + 1, .owner = {.uid = id, .gid = id + 5000}}));
    for (std::uint32_t id = 0; id < 200; ++id) {
      CO_TRY(const std::int64_t used, co_await used_by(m, QuotaKind::user, id));
      CHECK(used == id + 1);
      CO_TRY(const std::int64_t group_used, co_await used_by(m, QuotaKind::group, id + 5000));
      CHECK(group_used == id + 1);
    }
    co_return Result<>{};
  };
  AllocatorImage small(512, {32000}, 1024, 1);
  SimulatedVolume large(small.image);
  run_mounted(large, small, with_quota(QuotaMode::account), scenario);

  // Where the quota file cannot grow, the charge that does not fit is refused before anything is changed.
  AllocatorImage tight_image(512, {100}, 1024, 1);
  SimulatedVolume tight(tight_image.image);
  run_mounted(tight, tight_image, with_quota(QuotaMode::account), [](AllocatorMount& m) -> Task<Result<>> {
    std::uint32_t id = 0;
    for (;; ++id) {
      const auto taken = co_await take(m, {.blocks = 1, .owner = {.uid = id * 1000000, .gid = id * 1000000 + 7}});
      if (taken) continue;
      CHECK(taken.error().code() == ENOSPC);
      break;
    }
    CHECK(id >= 10);
    CO_TRY(const SpaceFigures figures, co_await m.allocator->figures());
    CHECK(figures.total_blocks > figures.free_blocks);
    for (std::uint32_t charged = 0; charged < id; ++charged) {
      CO_TRY(const std::int64_t used, co_await used_by(m, QuotaKind::user, charged * 1000000));
      CHECK(used == 1);
    }
    co_return Result<>{};
  });
}
