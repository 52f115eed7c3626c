/// Calls of locks run to their end, for tests that go step by step.
#pragma once

#include <optional>

#include "test/sim/dlm/cluster.h"
#include "test/support/catch.h"

namespace corral::dlm::test {

inline ValueBytes value_of(std::uint8_t number) {
  ValueBytes bytes{};
  bytes.fill(static_cast<std::byte>(number));
  return bytes;
}

/// An operation that was started: its error when it has ended, 0 for success.
using Ended = std::optional<int>;

/// Coroutines that leave their result where a test can see it. Both must outlive the coroutine.
inline Task<void> acquire_into(Lock& lock, Mode mode, LockFlags flags, ValueBytes written, Ended& ended) {
  auto result = co_await lock.acquire(mode, flags, written);
  ended = result ? 0 : result.error().code();
}
inline Task<void> release_into(Lock& lock, LockFlags flags, ValueBytes written, Ended& ended) {
  auto result = co_await lock.release(flags, written);
  ended = result ? 0 : result.error().code();
}

inline int acquire(Cluster& cluster, Lock& lock, Mode mode, LockFlags flags = {}, ValueBytes written = {}) {
  Ended ended;
  Scope scope(cluster.executor);
  scope.spawn(acquire_into(lock, mode, flags, written, ended));
  REQUIRE(cluster.run_until([&] { return ended.has_value(); }));
  return *ended;
}
inline int release(Cluster& cluster, Lock& lock, LockFlags flags = {}, ValueBytes written = {}) {
  Ended ended;
  Scope scope(cluster.executor);
  scope.spawn(release_into(lock, flags, written, ended));
  REQUIRE(cluster.run_until([&] { return ended.has_value(); }));
  return *ended;
}

/// A name that the directory keeps on this node; another for every `skip`.
inline ResourceName name_kept_by(const Node& node, NodeId keeper, int skip = 0) {
  for (int i = 0;; ++i) {
    ResourceName name(LockspaceId(1), fmt::format("resource {}", i));
    if (directory_node(node.manager.view(), name).node == keeper && skip-- == 0) return name;
  }
}

}  // namespace corral::dlm::test
