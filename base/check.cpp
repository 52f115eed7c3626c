#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace corral {

void check_failed(const char* condition, const std::source_location& where) {
  std::fprintf(stderr, "corral: broken invariant: %s (%s:%u in %s)\n", condition, where.file_name(),
               static_cast<unsigned>(where.line()), where.function_name());
  std::abort();
}

}  // namespace corral
