/// A plain model of what a lock manager owes its users: who holds what, as the users know it, and what the value blocks
/// say. Every grant is checked against it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "dlm/lock_manager.h"

namespace corral::dlm::test {

/// One user of one life of a node; has at most one lock at a time.
struct User {
  Member node;
  int number = 0;
  auto operator<=>(const User&) const = default;
};

class LockModel {
 public:
  explicit LockModel(int resources) : resources_(static_cast<std::size_t>(resources)) {}

  /// The user holds the mode from now on: no two users may hold modes that exclude each other, the dead that may have
  /// written and are not recovered among them.
  void granted(int resource, User user, Mode mode) {
    Resource& r = at(resource);
    for (const auto& [other, held] : r.held) {
      if (other != user && !compatible(held, mode)) {
        failures.push_back(fmt::format("resource {}: user {} of {} got {} while user {} of {}{} has {}", resource,
                                       user.number, user.node.describe(), name(mode), other.number,
                                       dead_.contains(other.node) ? "the dead " : "", other.node.describe(),
                                       name(held)));
      }
    }
    r.held[user] = mode;
    ++grants;
  }
  /// The user is about to convert, or to give the lock up (empty): from now on it relies on no more than this.
  void relies_on(int resource, User user, std::optional<Mode> mode) {
    Resource& r = at(resource);
    if (mode) {
      r.held[user] = *mode;
      return;
    }
    r.held.erase(user);
    if (nobody_lives(r)) r.may_be_forgotten = true;
  }
  /// A new value, never used before. What is written while a recovery is due (not `settled`) may be on its way to a
  /// master that is dead.
  ValueBytes write(int resource, bool settled) {
    Resource& r = at(resource);
    ++writes_;
    ValueBytes bytes{};
    for (std::size_t i = 0; i < 8; ++i)
      bytes[i] = static_cast<std::byte>(writes_ >> (8 * i));
    r.value = bytes;
    if (settled) r.may_be_forgotten = r.may_be_invalid = false;
    return bytes;
  }
  /// What a grant that raised the mode said of the value. NL and CR let others write while the grant is under way.
  void read(int resource, User user, Mode mode, const LockValue& value) {
    if (mode <= Mode::concurrent_read) return;
    Resource& r = at(resource);
    if (!value.valid) {
      ++invalid_reads;
      // A resource that is made anew while journals wait for their replay is in doubt as well.
      const bool made_anew = r.may_be_forgotten && value.sequence == 0;
      if (!r.may_be_invalid && !made_anew)
        failures.push_back(fmt::format("resource {}: the value is not valid, nobody died", resource));
      return;
    }
    if (value.bytes == r.value) return;
    if (value == LockValue{} && r.may_be_forgotten) return;
    failures.push_back(fmt::format(
        "resource {}: user {} of {} got {} and read an old value: {} of sequence {} instead of {}", resource,
        user.number, user.node.describe(), name(mode), number_of(value.bytes), value.sequence, number_of(r.value)));
  }
  /// The node's life ends. In order: nothing that it held is in doubt.
  void ended(Member node, bool in_order) {
    if (!in_order) dead_.insert(node);
    for (Resource& r : resources_) {
      std::erase_if(r.held,
                    [&](const auto& entry) { return entry.first.node == node && (in_order || !writes(entry.second)); });
      r.may_be_forgotten = r.may_be_invalid = true;
    }
  }
  void recovered(Member node) {
    dead_.erase(node);
    for (Resource& r : resources_)
      std::erase_if(r.held, [&](const auto& entry) { return entry.first.node == node; });
  }

  std::vector<std::string> failures;
  std::uint64_t grants = 0;
  std::uint64_t invalid_reads = 0;

 private:
  struct Resource {
    std::map<User, Mode> held;
    ValueBytes value{};
    bool may_be_forgotten = true;
    bool may_be_invalid = false;
  };
  static std::uint64_t number_of(const ValueBytes& bytes) {
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < 8; ++i)
      number |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
    return number;
  }
  Resource& at(int resource) { return resources_[static_cast<std::size_t>(resource)]; }
  bool nobody_lives(const Resource& r) const {
    return std::ranges::all_of(r.held, [this](const auto& entry) { return dead_.contains(entry.first.node); });
  }

  std::vector<Resource> resources_;
  std::set<Member> dead_;
  std::uint64_t writes_ = 0;
};

}  // namespace corral::dlm::test
