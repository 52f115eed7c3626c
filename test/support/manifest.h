/// Lists of contents of golden volumes: one JSON object per path, as the kernel's own filesystem showed it.
#pragma once

#include <map>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

namespace corral::test {

/// Path from the volume's root ("." is the root) to its line. Paths are exact bytes; in other strings of a line, bytes
/// that are not UTF-8 appear as the characters U+0080 to U+00FF.
using Manifest = std::map<std::string, nlohmann::json>;

/// Reads FOLDER/<name>.xz, e.g. "basic-4k/manifest.jsonl"; FOLDER must be there (golden_folder()).
Manifest read_manifest(const std::string& name);

/// The name and parent path of a path other than ".".
std::pair<std::string, std::string> split_path(const std::string& path);

}  // namespace corral::test
