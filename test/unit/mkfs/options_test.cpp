#include "tools/mkfs/options.h"

#include "test/support/catch.h"

using namespace corral;
using namespace corral::mkfs;

namespace {

FormatOptions sound() {
  FormatOptions options;
  options.lock_table = "my-cluster:storage";
  return options;
}

template <class Change>
void check_refused(Change change, const std::string& text) {
  FormatOptions options = sound();
  change(options);
  auto result = check_options(options);
  REQUIRE(!result);
  CHECK(result.error().code() == EINVAL);
  INFO(result.error().message());
  CHECK(result.error().message().find(text) != std::string::npos);
}

using Options = FormatOptions;

}  // namespace

TEST_CASE("sound options are accepted") {
  CHECK(check_options(sound()));
  for (const char* protocol : {kLockCorral, kLockDlm, kLockNolock}) {
    FormatOptions options = sound();
    options.lock_protocol = protocol;
    CHECK(check_options(options));
  }
  FormatOptions options;
  options.lock_protocol = kLockNolock;
  CHECK(check_options(options));
  options = sound();
  options.lock_table = std::string(32, 'a') + ":" + std::string(30, 'Z');
  options.fs_format = 1801;
  options.journal_mebibytes = 1024;
  options.resource_group_mebibytes = 32;
  options.stripe = Stripe{.unit_bytes = 65536, .width_bytes = 262144};
  CHECK(check_options(options));
}

TEST_CASE("figures out of range are refused") {
  for (std::uint32_t size : {0u, 256u, 3000u, 8192u})
    check_refused([&](Options& o) { o.block_size = size; }, "block size must be a power of two from 512 to 4096");
  check_refused([](Options& o) { o.journals = 0; }, "journals must be from 1 to 1024, not 0");
  check_refused([](Options& o) { o.journals = 1025; }, "not 1025");
  check_refused([](Options& o) { o.journal_mebibytes = 7; }, "from 8 to 1024, not 7");
  check_refused([](Options& o) { o.journal_mebibytes = 1025; }, "not 1025");
  check_refused([](Options& o) { o.resource_group_mebibytes = 31; }, "from 32 to 2048, not 31");
  check_refused([](Options& o) { o.quota_change_mebibytes = 0; }, "from 1 to 64, not 0");
  check_refused([](Options& o) { o.quota_change_mebibytes = 65; }, "not 65");
  check_refused([](Options& o) { o.fs_format = 1803; }, "from 1801 to 1802, not 1803");
}

TEST_CASE("bad lock protocols and tables are refused") {
  check_refused([](Options& o) { o.lock_protocol = "lock_foo"; }, "choose lock_corral, lock_dlm or lock_nolock");
  check_refused([](Options& o) { o.lock_table = ""; }, "-t CLUSTER:NAME");
  check_refused([](Options& o) { o.lock_table = "storage"; }, "one colon");
  check_refused([](Options& o) { o.lock_table = "a:b:c"; }, "one colon");
  check_refused([](Options& o) { o.lock_table = ":storage"; }, "cluster name must have 1 to 32 characters, not 0");
  check_refused([](Options& o) { o.lock_table = "cluster:"; }, "volume name must have 1 to 30 characters, not 0");
  check_refused([](Options& o) { o.lock_table = std::string(33, 'a') + ":b"; }, "not 33");
  check_refused([](Options& o) { o.lock_table = "a:" + std::string(31, 'b'); }, "not 31");
  check_refused([](Options& o) { o.lock_table = "my cluster:b"; }, "character ' ' in the cluster name");
  check_refused([](Options& o) { o.lock_table = "a:b.c"; }, "character '.' in the volume name 'b.c'");
  check_refused([](Options& o) { o.lock_protocol = kLockNolock, o.lock_table = "a@:b"; }, "'@'");
}

TEST_CASE("stripes that do not fit blocks or groups are refused") {
  auto stripe = [](std::uint64_t unit, std::uint64_t width) {
    return [=](Options& o) { o.stripe = Stripe{.unit_bytes = unit, .width_bytes = width}; };
  };
  check_refused(stripe(0, 65536), "stripe unit 0");
  check_refused(stripe(6000, 12000), "not a multiple of the block size, 4096");
  check_refused(stripe(8192, 0), "stripe width 0");
  check_refused(stripe(8192, 12288), "not a multiple of the stripe unit, 8192");
  check_refused(stripe(1 << 20, 64 << 20), "smallest resource group");
}
