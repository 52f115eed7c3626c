/// Fencing by a program of the fence-agents kind, which turns the node's host off: key=value lines on its standard
/// input, action=off, which must succeed, then action=status, which must say that the host is off.
///
/// A life counts as fenced when the agent has said so. It need not be asked where the node has come back as a later
/// life; and where the agent fails an operator's word counts as well (corral fence ack).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "fence/fencing.h"

namespace corral {

/// How long one run of an agent may take.
inline constexpr Duration kAgentTime = std::chrono::seconds(60);
/// From a failure to the next attempt.
inline constexpr Duration kAgentPause = std::chrono::seconds(5);

/// The path of the agent on this host; ENOENT with what to do.
Task<Result<std::string>> find_fence_agent(ProgramRunner& programs, std::string name);

/// What an agent gets to read: the options with the node's name where they ask for it, the action, and the name as
/// plug, port and nodename where the options do not say them.
std::string agent_input(std::string_view options, std::string_view action, std::string_view node);

class AgentFencer final : public cluster::Fencer {
 public:
  /// `program` is the agent's path.
  AgentFencer(FencingParts parts, cluster::Header header, std::string program);

  std::uint64_t key_of(Member member) const override { return fencing_key(header_.cluster, member, FencingWay::agent); }
  Task<Result<>> fence(Member victim) override;

 private:
  Task<Result<>> turn_off(std::string node);
  Task<Result<int>> run(std::string_view action, std::string node);

  FencingParts parts_;
  cluster::Header header_;
  std::string program_;
  std::map<Member, Time> next_attempt_;  ///< of those that failed
};

}  // namespace corral
