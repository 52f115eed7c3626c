#include "fuse/mount_commands.h"

#include <nlohmann/json.hpp>

#include "test/support/catch.h"
#include "test/support/mounted_volume.h"

using namespace corral;
using nlohmann::json;
using test::MountedVolume;
using test::must;

namespace {

struct Bench {
  explicit Bench(MountOptions options = {})
      : disk(test::formatted_volume(4096, 64)), volume(disk, std::move(options)) {}
  Result<json> run(json request) { return volume.run(commands.run(std::move(request), {})); }
  SimulatedDisk disk;
  MountedVolume volume;
  MountCommands commands{*volume.filesystem, "/mydata"};
};

/// The code of its error, or 0.
int code_of(const Result<json>& answer) {
  return answer ? 0 : answer.error().code();
}

/// A discard that does not come back until the fault is removed.
std::uint64_t stick(Bench& bench) {
  SimulatedFault stuck;
  stuck.effect = SimulatedFault::Effect::stuck;
  stuck.operations = SimulatedFault::discards;
  return bench.volume.device.add_fault(stuck);
}

}  // namespace

TEST_CASE("a mount trims, counts and limits for who asks it") {
  MountOptions options;
  options.quota = QuotaMode::on;
  Bench bench(options);
  for (const char* command : {"trim", "quota-report", "quota-set", "grow"})
    CHECK(MountCommands::knows({{"command", command}}));
  CHECK_FALSE(MountCommands::knows({{"command", "status"}}));
  CHECK_FALSE(MountCommands::knows({{"command", 7}}));
  CHECK_FALSE(MountCommands::knows(json::object()));

  CHECK(must(bench.run({{"command", "trim"}}))["bytes_trimmed"] > (16 << 20));
  // Limits are rounded up to blocks; what is not given stays.
  const json set{{"command", "quota-set"}, {"kind", "user"}, {"id", 12}, {"limit", 10'000}};
  CHECK(must(bench.run(set)) == json{{"limit_blocks", 3}, {"warn_blocks", 0}});
  CHECK(must(bench.run({{"command", "quota-set"}, {"kind", "user"}, {"id", 12}, {"warn", 4096}})) ==
        json{{"limit_blocks", 3}, {"warn_blocks", 1}});
  const json report = must(bench.run({{"command", "quota-report"}}));
  CHECK(report["quota"] == "on");
  CHECK(report["block_size"] == 4096);
  const json expected{{"kind", "user"}, {"id", 12}, {"used_blocks", 0}, {"limit_blocks", 3}, {"warn_blocks", 1}};
  CHECK(std::ranges::find(report["records"], expected) != report["records"].end());
  CHECK(must(bench.run({{"command", "grow"}}))["groups"] == 0);
  bench.volume.unmount();
}

TEST_CASE("a request that makes no sense gets an error") {
  Bench bench;
  for (const json& request :
       {json{{"command", "trim"}, {"start", -1}}, json{{"command", "trim"}, {"minimum", "much"}},
        json{{"command", "quota-set"}, {"kind", "tribe"}, {"id", 1}, {"limit", 1}},
        json{{"command", "quota-set"}, {"id", 1}, {"limit", 1}}, json{{"command", "quota-set"}, {"kind", "user"}},
        json{{"command", "quota-set"}, {"kind", "user"}, {"id", std::uint64_t{1} << 32}, {"limit", 1}},
        json{{"command", "quota-set"}, {"kind", "user"}, {"id", 1}, {"limit", json::array()}}}) {
    INFO(request.dump());
    CHECK(code_of(bench.run(request)) == EINVAL);
  }
  bench.volume.unmount();
}

TEST_CASE("who goes away, and a mount that ends, stop what is under way") {
  for (const bool mount_ends : {false, true}) {
    Bench bench;
    const std::uint64_t fault = stick(bench);
    std::stop_source client;
    std::optional<Result<json>> answer;
    bool ended = false;
    auto scenario = [](Bench& b, std::uint64_t number, bool mount, std::stop_source& gone,
                       std::optional<Result<json>>& answered, bool& end) -> Task<Result<>> {
      auto trim = [](Bench& on, std::stop_token stop, std::optional<Result<json>>& out) -> Task<void> {
        out.emplace(co_await on.commands.run({{"command", "trim"}}, std::move(stop)));
      };
      auto finish = [](Bench& on, bool& done) -> Task<void> {
        co_await on.commands.end();
        done = true;
      };
      Scope scope(b.volume.executor);
      scope.spawn(trim(b, gone.get_token(), answered));
      if (mount)
        scope.spawn(finish(b, end));
      else
        gone.request_stop();
      for (int i = 0; i < 10; ++i)
        co_await b.volume.executor.yield();
      // Only what is with the disk is waited for.
      CHECK_FALSE(answered.has_value());
      CHECK_FALSE(end);
      b.volume.device.remove_fault(number);
      co_await scope.join();
      co_return Result<>{};
    };
    must(bench.volume.run(scenario(bench, fault, mount_ends, client, answer, ended)));
    REQUIRE(answer);
    CHECK(code_of(*answer) == ECANCELED);
    CHECK(ended == mount_ends);
    // One that has ended takes nothing any more.
    CHECK(code_of(bench.run({{"command", "quota-report"}})) == (mount_ends ? ECANCELED : 0));
    bench.volume.unmount();
  }
}
