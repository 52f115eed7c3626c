#include "test/sim/cluster/history.h"

#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace corral::sim {

SlotValue Mixtures::intern(std::vector<SlotValue> parts, std::uint64_t contents) {
  auto [at, fresh] = known_.try_emplace(contents, kMixed + static_cast<SlotValue>(parts_.size()));
  if (fresh) parts_.push_back(std::move(parts));
  return at->second;
}

std::string Operation::describe() const {
  static constexpr std::array kNames = {"read",    "size",   "write", "append",   "truncate", "lookup", "insert",
                                        "replace", "remove", "move",  "exchange", "list",     "sync",   "death"};
  std::string text = fmt::format("[{}, {}] life {} {}", begin, ended() ? std::to_string(end) : "-", life,
                                 kNames.at(static_cast<std::size_t>(kind)));
  switch (kind) {
    case Kind::read:
      text += fmt::format(" saw {}", fmt::join(seen, " "));
      break;
    case Kind::write:
    case Kind::append:
      text += fmt::format(" slot {} count {} value {}", first, count, value);
      break;
    case Kind::size:
    case Kind::truncate:
      text += fmt::format(" {} slots", count);
      break;
    case Kind::list:
      text += fmt::format(" saw {:x}", fmt::join(tags, " "));
      break;
    case Kind::lookup:
    case Kind::insert:
    case Kind::replace:
    case Kind::remove:
      text += fmt::format(" name {} inode {:x}", first, tag);
      break;
    case Kind::move:
    case Kind::exchange:
      text += fmt::format(" names {} and {}", first, second);
      break;
    case Kind::sync:
    case Kind::death:
      break;
  }
  if (error != 0) text += fmt::format(" error {}", error);
  return text;
}

}  // namespace corral::sim
