#include "fence/agent_fencer.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "cluster/settings.h"
#include "fence/acknowledgement.h"

namespace corral {

namespace {
// Exit statuses of action=status, and 0 of the others where they succeeded.
constexpr int kDone = 0;
constexpr int kOn = 0;
constexpr int kOff = 2;

std::string with_node(std::string_view option, std::string_view node) {
  std::string text(option);
  for (std::size_t at = 0; (at = text.find(cluster::kNodePlaceholder, at)) != std::string::npos; at += node.size())
    text.replace(at, cluster::kNodePlaceholder.size(), node);
  return text;
}
}  // namespace

Task<Result<std::string>> find_fence_agent(ProgramRunner& programs, std::string name) {
  Result<std::string> path = co_await programs.find(name);
  if (path) co_return path;
  co_return fail(path.error().code(),
                 "{}: nodes are fenced by this fence agent (setting fence): install it on every node (package "
                 "fence-agents), or give the setting another value",
                 path.error().message());
}

std::string agent_input(std::string_view options, std::string_view action, std::string_view node) {
  std::string input;
  const std::vector<std::string_view> given = cluster::agent_options(options);
  for (const std::string_view option : given)
    input += with_node(option, node) + '\n';
  for (const std::string_view key : cluster::kNodeOptions) {
    // Where the options say one of these they know better.
    const bool said = std::ranges::any_of(
        given, [key](std::string_view option) { return option.substr(0, option.find('=')) == key; });
    if (!said) input += fmt::format("{}={}\n", key, node);
  }
  return input + fmt::format("action={}\n", action);
}

AgentFencer::AgentFencer(FencingParts parts, cluster::Header header, std::string program)
    : parts_(std::move(parts)), header_(std::move(header)), program_(std::move(program)) {}

Task<Result<>> AgentFencer::fence(Member victim) {
  if (const auto next = next_attempt_.find(victim); next != next_attempt_.end())
    co_await parts_.executor.sleep_until(next->second);
  CO_TRY(const SeenLife seen, co_await look_at_life(parts_, victim));
  if (seen.ended) co_return Result<>{};
  const std::string& device = parts_.area.device().name();
  if (seen.name.empty())
    co_return fail(EINPROGRESS,
                   "its slot does not say its name any more: turn its host off, unmount everywhere, and give "
                   "fsck.corral -y {}",
                   device);
  const Result<> done = co_await turn_off(seen.name);
  if (!done) {
    next_attempt_[victim] = parts_.executor.now() + kAgentPause;
    co_return fail(EINPROGRESS,
                   "{0}; trying again; or turn node {1} off by hand, and then say so: corral fence ack {2} {1}",
                   done.error().message(), seen.name, device);
  }
  next_attempt_.erase(victim);
  parts_.log.info("fenced {}: {} has turned node {} off", victim.describe(), program_, seen.name);
  co_return Result<>{};
}

/// Both must succeed: a status of "off" alone says nothing, because agents end with the same exit status where they do
/// not understand their options.
Task<Result<>> AgentFencer::turn_off(std::string node) {
  parts_.log.info("fencing node {}: {} action=off", node, program_);
  CO_TRY(const int ordered, co_await run("off", node));
  if (ordered != kDone) co_return fail_device(EIO, "{}: action=off failed with exit status {}", program_, ordered);
  CO_TRY(const int status, co_await run("status", node));
  if (status == kOff) co_return Result<>{};
  co_return fail_device(EIO, "{}: the host is {} after action=off (action=status: exit status {})", program_,
                        status == kOn ? "still on" : "not known to be off", status);
}

Task<Result<int>> AgentFencer::run(std::string_view action, std::string node) {
  const std::string input = agent_input(header_.settings.fence_agent_options, action, node);
  if (input.size() > ProgramRunner::kMostInputBytes)
    co_return fail(EINVAL, "fence-agent-options are too long with the name {} in them", node);
  CO_TRY(const ProgramRun done, co_await parts_.programs.run(program_, input, kAgentTime));
  std::istringstream lines(done.output);
  for (std::string line; std::getline(lines, line);)
    parts_.log.info("{}: {}", program_, line);
  co_return done.exit_status;
}

}  // namespace corral
