/// What the tests of LUNs behind iSCSI share.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/random.h"
#include "disk/iscsi_device.h"
#include "test/support/catch.h"
#include "test/support/tgt_target.h"

namespace corral::test {

inline AlignedBuffer random_bytes(std::size_t bytes, std::uint64_t seed) {
  AlignedBuffer buffer(bytes);
  Random random(seed);
  for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
    std::uint64_t value = random.next();
    std::memcpy(buffer.data() + at, &value, sizeof(value));
  }
  return buffer;
}

inline bool equal(const AlignedBuffer& a, const AlignedBuffer& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

/// One initiator on the loop. Several in one process stand for several nodes.
inline std::unique_ptr<IscsiDevice> open_lun(EventLoop& loop, const std::string& url) {
  auto opened = loop.run_until_done(IscsiDevice::open(loop, url, {.exclusive = false}));
  INFO((opened ? "" : opened.error().describe()));
  REQUIRE(opened.has_value());
  return *std::move(opened);
}

/// Fails the test unless the task succeeds.
template <class T>
T must(EventLoop& loop, Task<Result<T>> task) {
  Result<T> result = loop.run_until_done(std::move(task));
  INFO((result ? "" : result.error().describe()));
  REQUIRE(result.has_value());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

inline bool mentions(const Error& error, const std::string& text) {
  INFO(error.message());
  CHECK(error.message().find(text) != std::string::npos);
  return error.message().find(text) != std::string::npos;
}

/// The errno of a task that must fail, 0 where it did not.
template <class T>
int code_of(EventLoop& loop, Task<Result<T>> task) {
  Result<T> result = loop.run_until_done(std::move(task));
  return result ? 0 : result.error().code();
}

}  // namespace corral::test
