/// Unwrapping results in tests.
#pragma once

#include <type_traits>
#include <utility>

#include "base/result.h"
#include "test/support/catch.h"

namespace corral::test {

/// The value, or a test failure with the error's words.
template <class T>
T must(Result<T> result) {
  if (!result) FAIL(result.error().describe());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

}  // namespace corral::test
