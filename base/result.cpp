#include "base/result.h"

#include <system_error>

namespace corral {

std::string Error::describe() const {
  return message_.empty() ? std::generic_category().message(code_) : message_;
}

Error Error::within(const std::string& context) const {
  return Error(code_, fmt::format("{}: {}", context, describe()), kind_);
}

}  // namespace corral
