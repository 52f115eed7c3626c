#include "tools/corral/confirmation.h"

#include <cstdio>
#include <iostream>

#include <fmt/format.h>

namespace corral {

Result<> confirm(const std::string& question) {
  fmt::print("{} Write \"yes\" if so: ", question);
  std::fflush(stdout);
  std::string answer;
  if (!std::getline(std::cin, answer)) fmt::print("\n");
  if (answer == "yes") return {};
  return fail(ECANCELED, "nothing was done: the answer was not \"yes\" (-y does not ask)");
}

}  // namespace corral
