/// Asks whoever sits at the terminal before something that cannot be taken back.
#pragma once

#include <string>

#include "base/result.h"

namespace corral {

/// Shows the question and waits for the word "yes". ECANCELED for any other answer, and where standard input ends.
Result<> confirm(const std::string& question);

}  // namespace corral
