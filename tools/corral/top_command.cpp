#include "tools/corral/top_command.h"

#include <algorithm>
#include <cstdio>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "tools/corral/mounts.h"

namespace corral {

using nlohmann::json;

namespace {

constexpr int kFailed = 8;

/// Of one counter between two answers.
class Rates {
 public:
  Rates(const json& before, const json& after) : before_(before), after_(after) {
    const double us = number(after, "/time_us") - number(before, "/time_us");
    seconds_ = std::max(us, 1.0) / 1e6;
  }

  static double number(const json& in, const std::string& path) {
    const json::json_pointer pointer(path);
    return in.contains(pointer) && in[pointer].is_number() ? in[pointer].get<double>() : 0;
  }
  double now(const std::string& path) const { return number(after_, path); }
  double change(const std::string& path) const { return number(after_, path) - number(before_, path); }
  double rate(const std::string& path) const { return change(path) / seconds_; }

 private:
  const json& before_;
  const json& after_;
  double seconds_ = 1;
};

/// Upper end of the bucket in which that part of the requests between the answers lies.
double percentile_us(const json& before, const json& after, double part) {
  const auto counts = [](const json& in) {
    return in.is_array() ? in.get<std::vector<double>>() : std::vector<double>();
  };
  std::vector<double> buckets = counts(after);
  const std::vector<double> earlier = counts(before);
  double sum = 0;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    buckets[i] -= i < earlier.size() ? earlier[i] : 0;
    sum += buckets[i];
  }
  double seen = 0;
  double bound_us = 1;
  for (double count : buckets) {
    seen += count;
    if (seen >= sum * part) break;
    bound_us *= 2;
  }
  return bound_us;
}

std::string mebibytes(double bytes) {
  return fmt::format("{:.1f} MiB", bytes / (1 << 20));
}

json find(const json& in, const std::string& request) {
  const auto requests = in.find("requests");
  if (requests == in.end() || !requests->contains(request)) return json::object();
  return (*requests)[request];
}

std::string request_lines(const json& before, const json& after, const Rates& rates) {
  struct Line {
    std::string name;
    double rate;
    double mean_us;
    double most_us;
  };
  std::vector<Line> lines;
  const json requests = after.value("requests", json::object());
  for (const auto& [name, request] : requests.items()) {
    const std::string path = "/requests/" + name;
    const double count = rates.change(path + "/count");
    if (count <= 0) continue;
    const json earlier = find(before, name);
    lines.push_back(
        {name, rates.rate(path + "/count"), rates.change(path + "/total_us") / count,
         percentile_us(earlier.value("latency_log2_us", json()), request.value("latency_log2_us", json()), 0.99)});
  }
  std::ranges::sort(lines, std::greater(), &Line::rate);
  std::string text = fmt::format("  {:<20} {:>10} {:>12} {:>12}\n", "Request", "per s", "mean us", "99% below us");
  for (const Line& line : lines)
    text += fmt::format("  {:<20} {:>10.1f} {:>12.1f} {:>12.0f}\n", line.name, line.rate, line.mean_us, line.most_us);
  return text;
}

}  // namespace

TopCommand::TopCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("top", "Show what a mount does, as rates per second");
  command->add_option("directory", directory_, "Mount point (default: all mounts of this host)");
  command->add_flag("-b,--once", once_, "Show the rates over one interval, once, without clearing the screen");
  command->add_option("-i,--interval", interval_seconds_, "Seconds over which rates are taken")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  command->callback([this, &status] { status = run(); });
}

std::string TopCommand::text(const std::string& directory, const json& before, const json& after) {
  const Rates rates(before, after);
  std::string text = fmt::format("{}: {:.0f} requests under way, read {}/s, written {}/s, {:.1f} errors/s\n", directory,
                                 rates.now("/running"), mebibytes(rates.rate("/bytes_read")),
                                 mebibytes(rates.rate("/bytes_written")), rates.rate("/errors"));
  text += fmt::format(
      "  Glocks   {:.0f} in memory; per s: {:.1f} hits, {:.1f} waits, {:.1f} asked for, {:.1f} given up, "
      "{:.1f} wanted by others\n",
      rates.now("/glocks/held"), rates.rate("/glocks/hits"), rates.rate("/glocks/waits"),
      rates.rate("/glocks/promotes"), rates.rate("/glocks/demotes"), rates.rate("/glocks/callbacks"));
  if (after.contains("locks"))
    text += fmt::format("  Locks    {:.0f} held; per s: {:.1f} operations here, {:.1f} at other nodes\n",
                        rates.now("/locks/held"), rates.rate("/locks/local_operations"),
                        rates.rate("/locks/remote_operations"));
  if (after.contains("journal"))
    text += fmt::format(
        "  Journal  {:.0f} blocks free; per s: {:.1f} transactions, {:.1f} commits, {:.1f} device "
        "flushes, {:.1f} blocks logged, {:.1f} written in place\n",
        rates.now("/journal/free_log_blocks"), rates.rate("/journal/transactions"), rates.rate("/journal/flushes"),
        rates.rate("/journal/device_flushes"), rates.rate("/journal/logged_blocks"),
        rates.rate("/journal/written_in_place"));
  text += fmt::format("  Cache    {} of {}; {:.0f} inodes in memory, {:.0f} at rest\n",
                      mebibytes(rates.now("/cache/bytes")), mebibytes(rates.now("/cache/limit_bytes")),
                      rates.now("/inodes/awake"), rates.now("/inodes/resting"));
  return text + request_lines(before, after, rates);
}

int TopCommand::run() const {
  std::vector<CorralMount> mounts;
  if (directory_.empty()) {
    mounts = corral_mounts().value_or(mounts);
    if (mounts.empty()) fmt::print(stderr, "corral: this host has no Corral mount\n");
  } else if (auto mount = mount_at(directory_)) {
    mounts.push_back(*mount);
  } else {
    fmt::print(stderr, "corral: {}\n", mount.error().describe());
  }
  if (mounts.empty()) return kFailed;
  const bool clears = !once_ && isatty(STDOUT_FILENO) != 0;
  std::vector<Result<json>> before;
  before.reserve(mounts.size());
  for (const CorralMount& mount : mounts)
    before.push_back(mount.ask({{"command", "counters"}}));
  for (;;) {
    std::this_thread::sleep_for(std::chrono::duration<double>(interval_seconds_));
    std::string text = clears ? "\033[H\033[2J" : "";
    bool failed = false;
    for (std::size_t i = 0; i < mounts.size(); ++i) {
      auto after = mounts[i].ask({{"command", "counters"}});
      const bool both = before[i] && after;
      if (both) text += TopCommand::text(mounts[i].directory, *before[i], *after);
      if (!both) fmt::print(stderr, "corral: {}\n", (after ? before[i] : after).error().describe());
      failed |= !both;
      before[i] = std::move(after);
    }
    fmt::print("{}", text);
    std::fflush(stdout);
    if (once_ || failed) return failed ? kFailed : 0;
  }
}

}  // namespace corral
