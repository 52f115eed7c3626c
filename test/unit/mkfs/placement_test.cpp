#include "tools/mkfs/placement.h"

#include "test/support/catch.h"

using namespace corral;
using namespace corral::mkfs;

namespace {

constexpr std::uint64_t kMiB = kMebibyte;
constexpr std::uint64_t kGiB = 1024 * kMebibyte;
constexpr std::uint64_t kTiB = 1024 * kGiB;

FormatOptions sound(std::uint32_t journals = 1) {
  FormatOptions options;
  options.lock_table = "a:b";
  options.journals = journals;
  return options;
}

Result<Placement> place(const FormatOptions& options, std::uint64_t device_bytes) {
  return place_volume(options, {.size_bytes = device_bytes}, {});
}

void check_refused(const Result<Placement>& result, int code, const std::string& text) {
  REQUIRE(!result);
  CHECK(result.error().code() == code);
  INFO(result.error().message());
  CHECK(result.error().message().find(text) != std::string::npos);
}

/// Groups follow each other without overlap, fill the volume, and their skips lead from each to the next.
void check_groups(const Placement& placement) {
  const auto& groups = placement.groups;
  for (std::size_t i = 0; i + 1 < groups.size(); ++i) {
    REQUIRE(groups[i].addr + groups[i].skip == groups[i + 1].addr);
    REQUIRE(groups[i].data0() + groups[i].shape.data <= groups[i + 1].addr);
    REQUIRE(groups[i].used <= groups[i].shape.data);
  }
  CHECK(groups.back().skip == 0);
  CHECK(groups.back().data0().value + groups.back().shape.data <= placement.volume_blocks);
}

}  // namespace

TEST_CASE("journals grow with the volume unless told otherwise") {
  struct Case {
    std::uint64_t bytes;
    std::uint32_t journals;
    std::uint32_t mebibytes;
  };
  for (const Case& c : {Case{64 * kMiB, 1, 8}, Case{511 * kMiB, 1, 8}, Case{512 * kMiB, 1, 16}, Case{2 * kGiB, 1, 32},
                        Case{8 * kGiB, 1, 64}, Case{16 * kGiB, 1, 128}, Case{kTiB, 1, 512}, Case{10 * kTiB, 1, 1024},
                        Case{64 * kMiB, 5, 8}, Case{kGiB, 16, 16}, Case{kGiB, 50, 10}, Case{16 * kTiB, 16, 1024}}) {
    auto placement = place(sound(c.journals), c.bytes);
    if (!placement) FAIL(placement.error().message());
    INFO(c.bytes << " bytes, " << c.journals << " journals");
    CHECK(placement->journal_mebibytes == c.mebibytes);
    CHECK(placement->nodes.size() == c.journals);
    check_groups(*placement);
  }
}

TEST_CASE("groups are even, of the size asked for, and leave next to nothing over") {
  for (std::uint64_t bytes : {300 * kMiB, 1000 * kMiB, 5 * kGiB, kTiB, 16 * kTiB}) {
    for (std::uint32_t mebibytes : {64u, 256u, 2048u}) {
      FormatOptions options = sound(2);
      options.resource_group_mebibytes = mebibytes;
      auto placement = place(options, bytes);
      if (!placement) FAIL(placement.error().message());
      check_groups(*placement);
      const auto& groups = placement->groups;
      const auto& last = groups.back();
      CHECK(placement->volume_blocks - (last.addr.value + last.shape.blocks()) < 16);
      for (std::size_t i = 2; i < groups.size(); ++i) {
        REQUIRE(groups[i].shape.blocks() <= mebibytes * kMiB / 4096 + 4);
        REQUIRE(groups[2].shape.blocks() - groups[i].shape.blocks() <= 8);
      }
    }
  }
}

TEST_CASE("the usual number of groups suits the volume and its nodes") {
  auto groups = [](std::uint64_t bytes, std::uint32_t journals) {
    auto placement = place(sound(journals), bytes);
    if (!placement) FAIL(placement.error().message());
    return placement->groups.size() - journals;
  };
  CHECK(groups(kGiB, 1) == 4);
  CHECK(groups(kTiB, 1) == 4094);
  CHECK(groups(16 * kTiB, 1) == 8192);
  CHECK(groups(4 * kGiB, 16) >= 32);
  CHECK(groups(100 * kMiB, 2) == 3);
}

TEST_CASE("a volume too small says what would do, and that does") {
  for (std::uint32_t block_size : {512u, 1024u, 2048u, 4096u}) {
    for (std::uint32_t journals : {1u, 2u, 16u}) {
      for (std::uint64_t stripe : {0u, 65536u}) {
        FormatOptions options = sound(journals);
        options.block_size = block_size;
        if (stripe != 0) options.stripe = Stripe{.unit_bytes = stripe, .width_bytes = 4 * stripe};
        auto refused = place(options, kMiB);
        check_refused(refused, ENOSPC, "at least ");
        const std::string& message = refused.error().message();
        const std::uint64_t least = std::stoull(message.substr(message.find("at least ") + 9));
        auto accepted = place(options, least);
        if (!accepted) FAIL(accepted.error().message());
        check_groups(*accepted);
        CHECK(accepted->first_general().free() * block_size >= kMiB);
        check_refused(place(options, least - block_size), ENOSPC, "at least ");
      }
    }
  }
  FormatOptions options = sound(16);
  options.journal_mebibytes = 128;
  check_refused(place(options, kGiB), ENOSPC, "too small for 16 journals of 128 MiB");
}

TEST_CASE("the volume may be smaller than the device, and not larger") {
  FormatOptions options = sound();
  options.block_count = 50'000;
  auto placement = place(options, kGiB);
  REQUIRE(placement);
  CHECK(placement->volume_blocks == 50'000);
  check_groups(*placement);
  options.block_count = 262'145;
  check_refused(place(options, kGiB), EINVAL, "262145 blocks of 4096 bytes are more than the device holds (262144)");
}

TEST_CASE("blocks are not smaller than the device's sectors") {
  FormatOptions options = sound();
  options.block_size = 2048;
  auto result = place_volume(options, {.size_bytes = kGiB, .sector_bytes = 4096}, {});
  check_refused(result, EINVAL, "choose -b 4096");
}

TEST_CASE("groups follow the stripes that the device reports") {
  DeviceGeometry device{.size_bytes = 4 * kGiB, .minimum_io_bytes = 65536, .optimal_io_bytes = 262144};
  auto placement = place_volume(sound(2), device, {});
  REQUIRE(placement);
  REQUIRE(placement->alignment.enabled());
  check_groups(*placement);
  for (std::size_t i = 0; i < placement->groups.size(); ++i) {
    const PlacedGroup& group = placement->groups[i];
    CHECK(group.addr.value % 16 == 0);
    if (group.skip != 0) CHECK(group.skip % 64 == 16);
  }

  device.alignment_offset_bytes = 4096 * 5;
  placement = place_volume(sound(), device, {});
  REQUIRE(placement);
  CHECK(placement->groups[0].addr.value % 16 == 5);

  FormatOptions unaligned = sound();
  unaligned.align = false;
  placement = place_volume(unaligned, device, {});
  REQUIRE(placement);
  CHECK(!placement->alignment.enabled());
  CHECK(placement->groups[0].addr.value == 17);

  FormatOptions own = sound();
  own.stripe = Stripe{.unit_bytes = 131072, .width_bytes = 1048576};
  device.alignment_offset_bytes = 0;
  placement = place_volume(own, device, {});
  REQUIRE(placement);
  CHECK(placement->alignment.unit_blocks == 32);
  CHECK(placement->groups[0].addr.value % 32 == 0);
}

TEST_CASE("odd figures of a device are not followed") {
  struct Case {
    std::uint32_t minimum;
    std::uint32_t optimal;
  };
  for (const Case& c : {Case{512, 33553920}, Case{4096, 4096}, Case{0, 65536}, Case{65536, 0}, Case{65536, 100000},
                        Case{512, 65536}, Case{1 << 20, 1 << 30}}) {
    auto placement =
        place_volume(sound(), {.size_bytes = kGiB, .minimum_io_bytes = c.minimum, .optimal_io_bytes = c.optimal}, {});
    REQUIRE(placement);
    CHECK(!placement->alignment.enabled());
  }
}

TEST_CASE("groups too small for their own index are refused") {
  FormatOptions options = sound();
  options.resource_group_mebibytes = 32;
  check_refused(place(options, 20 * kTiB), EINVAL, "choose larger ones (-r)");
}
