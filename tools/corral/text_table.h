/// Tables as programs show them.
#pragma once

#include <string>
#include <vector>

namespace corral {

/// Columns as wide as their widest cell, the last one open. There is at least one row, and all are of one length.
std::string text_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace corral
