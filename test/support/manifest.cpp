#include "test/support/manifest.h"

#include <cstdio>
#include <stdexcept>
#include <string_view>

#include <fmt/format.h>

#include "test/support/golden.h"

namespace corral::test {

namespace {

std::string unpacked_text(const std::string& name) {
  const auto folder = golden_folder();
  if (!folder) throw std::runtime_error("no folder of golden volumes");
  const std::string command = fmt::format("xz -dc '{}/{}.xz'", folder->string(), name);
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run: " + command);
  std::string text;
  char buffer[65536];
  while (const std::size_t got = std::fread(buffer, 1, sizeof buffer, pipe))
    text.append(buffer, got);
  if (::pclose(pipe) != 0) throw std::runtime_error("failed: " + command);
  return text;
}

/// True if an escape of the first half of a surrogate pair ends at `at`.
bool follows_high_surrogate(const std::string& text, std::size_t at) {
  constexpr std::size_t kEscape = 6;
  return at >= kEscape && text.compare(at - kEscape, 3, "\\ud") == 0 &&
         std::string_view("89ab").find(text[at - kEscape + 3]) != std::string_view::npos;
}

/// Python writes bytes that are not UTF-8 as lone surrogates, which no JSON parser takes.
void replace_surrogate_escapes(std::string& text) {
  for (std::size_t at = text.find("\\udc"); at != std::string::npos; at = text.find("\\udc", at + 1))
    if (!follows_high_surrogate(text, at)) text.replace(at, 4, "\\u00");
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

}  // namespace

Manifest read_manifest(const std::string& name) {
  std::string text = unpacked_text(name);
  replace_surrogate_escapes(text);
  Manifest manifest;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    nlohmann::json line = nlohmann::json::parse(text.substr(at, end - at));
    at = end + 1;
    if (!line.contains("path")) continue;
    std::string path = line.contains("path_hex") ? from_hex(line["path_hex"]) : line["path"].get<std::string>();
    manifest.emplace(std::move(path), std::move(line));
  }
  return manifest;
}

std::pair<std::string, std::string> split_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {path, "."};
  return {path.substr(slash + 1), path.substr(0, slash)};
}

}  // namespace corral::test
