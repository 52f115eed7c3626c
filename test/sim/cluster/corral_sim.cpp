// corral-sim: simulates whole clusters in one process. docs/SIMULATION.md tells how to use it.
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "base/parse_number.h"
#include "test/sim/cluster/planted_bugs.h"
#include "test/sim/cluster/simulation.h"

namespace {

using namespace corral;
using namespace corral::sim;

struct Arguments {
  SimulationOptions options;
  std::uint64_t first = 1;
  std::uint64_t last = 1;
  std::uint32_t jobs = 1;
  bool batch = false;
  bool quiet = false;
  std::string plant;
  bool prove_planted = false;
};

std::string command_for(const Arguments& arguments, std::uint64_t seed) {
  const auto seconds = std::chrono::duration<double>(arguments.options.time).count();
  std::string command =
      fmt::format("corral-sim --seed {} --time {} --scenario {}", seed, seconds, arguments.options.scenario);
  if (!arguments.plant.empty()) command += " --plant " + arguments.plant;
  if (arguments.options.nodes != 0) command += fmt::format(" --nodes {}", arguments.options.nodes);
  return command;
}

/// 0: nothing wrong; 1: something was; 2: the options make no sense.
int run_one(const Arguments& arguments, std::uint64_t seed) {
  SimulationOptions options = arguments.options;
  options.seed = seed;
  const Result<SimulationReport> report = simulate(options);
  if (!report) {
    fmt::print(stderr, "corral-sim: {}\n", report.error().describe());
    return 2;
  }
  const auto seconds = std::chrono::duration<double>(report->virtual_time).count();
  if (!arguments.quiet) {
    fmt::print(
        "seed {}: trace {:016x} of {} lines, {:.0f} s, {} deeds, {} deaths, {} recoveries, {} disk writes, "
        "{} messages, {} cuts, {} undecided\n",
        seed, report->trace_hash, report->trace_lines, seconds, report->deeds, report->deaths, report->recoveries,
        report->disk_writes, report->messages, report->cuts_examined, report->undecided);
  }
  if (report->wrong) fmt::print("FAILED {}\n    {}\n", command_for(arguments, seed), *report->wrong);
  std::fflush(stdout);
  return report->wrong ? 1 : 0;
}

/// Seconds of real time after which a run counts as hung.
constexpr unsigned kHungAfter = 300;

/// Runs the work in a process of its own, so that one that aborts takes nobody along.
template <class Work>
pid_t start(Work work) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::alarm(kHungAfter);
  ::_exit(work());
}

/// Runs all seeds, calls `done(seed, wait status)` for each.
template <class Done>
int run_seeds(const Arguments& arguments, Done done) {
  std::map<pid_t, std::uint64_t> running;
  std::uint64_t next = arguments.first;
  while (next <= arguments.last || !running.empty()) {
    while (next <= arguments.last && running.size() < arguments.jobs) {
      const pid_t child = start([&arguments, next] { return run_one(arguments, next); });
      if (child < 0) return std::perror("corral-sim: fork"), 2;
      running[child] = next++;
    }
    int status = 0;
    const pid_t child = ::waitpid(-1, &status, 0);
    const std::uint64_t seed = running.at(child);
    running.erase(child);
    done(seed, status);
  }
  return 0;
}

int run_batch(const Arguments& arguments) {
  std::uint64_t failed = 0;
  const int error = run_seeds(arguments, [&](std::uint64_t seed, int status) {
    if (WIFSIGNALED(status))
      fmt::print("FAILED {}\n    ended by signal {}\n", command_for(arguments, seed), WTERMSIG(status));
    failed += status != 0;
  });
  if (error != 0) return error;
  fmt::print("{} seeds, {} failed\n", arguments.last - arguments.first + 1, failed);
  return failed == 0 ? 0 : 1;
}

/// The first seed that fails with the bug and does not without; 0 for none.
std::uint64_t seed_that_finds(Arguments arguments, std::string_view bug, const std::set<std::uint64_t>& bad) {
  arguments.plant = bug;
  for (std::uint64_t seed = arguments.first; seed <= arguments.last; ++seed) {
    if (bad.contains(seed)) continue;
    const pid_t child = start([&] {
      if (std::freopen("/dev/null", "w", stderr) == nullptr || !plant_bug(bug)) return 3;
      return run_one(arguments, seed);
    });
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) return 0;
    if (WIFSIGNALED(status))
      fmt::print("FAILED {}\n    ended by signal {}\n", command_for(arguments, seed), WTERMSIG(status));
    if (status != 0) return seed;
  }
  return 0;
}

/// Looks for every bug that can be planted, several at a time. 0: all were found.
int prove_planted(Arguments arguments) {
  if (!can_plant_bugs()) return fmt::print(stderr, "corral-sim: {}\n", plant_bug("").error().describe()), 2;
  arguments.quiet = true;
  std::set<std::uint64_t> bad;
  const int error = run_seeds(arguments, [&bad](std::uint64_t seed, int status) {
    if (status != 0) bad.insert(seed);
  });
  if (error != 0) return error;
  std::map<pid_t, std::string_view> running;
  std::vector<std::string_view> left = planted_bug_names();
  std::vector<std::string_view> missed;
  while (!left.empty() || !running.empty()) {
    while (!left.empty() && running.size() < arguments.jobs) {
      const std::string_view bug = left.back();
      left.pop_back();
      const pid_t child = ::fork();
      if (child < 0) return std::perror("corral-sim: fork"), 2;
      if (child == 0) {
        const std::uint64_t seed = seed_that_finds(arguments, bug, bad);
        fmt::print("{}: {}\n", bug, seed != 0 ? fmt::format("found by seed {}", seed) : "NOT FOUND");
        std::fflush(stdout);
        ::_exit(seed != 0 ? 0 : 1);
      }
      running[child] = bug;
    }
    int status = 0;
    const pid_t child = ::waitpid(-1, &status, 0);
    if (status != 0) missed.push_back(running.at(child));
    running.erase(child);
  }
  fmt::print("{} bugs planted, {} not found by {} seeds\n", planted_bug_names().size(), missed.size(),
             arguments.last - arguments.first + 1 - bad.size());
  return missed.empty() && bad.empty() ? 0 : 1;
}

bool parse_range(const std::string& text, Arguments& arguments) {
  const std::size_t dots = text.find("..");
  if (dots == std::string::npos) return false;
  const auto first = parse_number<std::uint64_t>(text.substr(0, dots));
  const auto last = parse_number<std::uint64_t>(text.substr(dots + 2));
  if (!first || !last || *first > *last) return false;
  arguments.first = *first;
  arguments.last = *last;
  arguments.batch = true;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  double seconds = 60;
  double until = 0;
  std::string range;
  CLI::App app("Simulates whole clusters in one process, under virtual time");
  app.add_option("--seed", arguments.first, "the run's seed");
  app.add_option("--seeds", range, "A..B: all of them, each in a process of its own");
  app.add_option("--jobs", arguments.jobs, "processes at a time")->check(CLI::Range(1, 256));
  app.add_option("--nodes", arguments.options.nodes, "how many; else the seed decides")->check(CLI::Range(1, 8));
  app.add_option("--time", seconds, "virtual seconds of work and faults")->check(CLI::Range(0.1, 1e6));
  app.add_option("--scenario", arguments.options.scenario, "any, calm, mixed, deaths, network, disk, power");
  app.add_flag("--trace", arguments.options.print_trace, "print the story");
  app.add_option("--until", until, "stop after so many virtual seconds")->check(CLI::PositiveNumber);
  app.add_option("--plant", arguments.plant, "run with this bug (programs built with CORRAL_PLANT_BUGS)");
  app.add_flag("--planted", arguments.prove_planted, "look for every bug that can be planted, within --seeds");
  app.add_flag("--quiet", arguments.quiet, "print failures only");
  CLI11_PARSE(app, argc, argv);
  arguments.options.time = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  if (until > 0) arguments.options.until = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(until));
  if (!range.empty() && !parse_range(range, arguments)) {
    fmt::print(stderr, "corral-sim: --seeds wants A..B, not {}\n", range);
    return 2;
  }
  if (arguments.prove_planted) return prove_planted(arguments);
  if (!arguments.plant.empty()) {
    if (const Result<> planted = plant_bug(arguments.plant); !planted) {
      fmt::print(stderr, "corral-sim: {}\n", planted.error().describe());
      return 2;
    }
  }
  return arguments.batch ? run_batch(arguments) : run_one(arguments, arguments.first);
}
