#include "tools/mkfs_corral/terminal.h"

#include <cstdio>
#include <iostream>
#include <iterator>

#include <fmt/format.h>
#include <uuid/uuid.h>

namespace corral::mkfs {

namespace {

std::string size_text(std::uint64_t bytes) {
  const char* unit = "MiB";
  double value = static_cast<double>(bytes) / static_cast<double>(kMebibyte);
  for (const char* larger : {"GiB", "TiB"}) {
    if (value < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return fmt::format("{:.2f} {}", value, unit);
}

}  // namespace

std::string summary(const std::string& device, const DeviceGeometry& geometry, const VolumeImage& image) {
  const Placement& placement = image.placement();
  const FormatOptions& options = image.options();
  const std::uint64_t block_size = options.block_size;
  const PlacedGroup& last = placement.groups.back();
  const std::uint64_t end_blocks = last.addr.value + last.shape.blocks();
  char uuid[UUID_STR_LEN];
  uuid_unparse(options.uuid.data(), uuid);
  std::string text;
  auto line = [&](const char* name, const std::string& value) {
    fmt::format_to(std::back_inserter(text), "{:<27}{}\n", name, value);
  };
  line("Device:", device);
  line("Block size:", fmt::format("{}", block_size));
  line("Device size:", fmt::format("{} ({} blocks)", size_text(geometry.size_bytes), geometry.size_bytes / block_size));
  line("Volume size:", fmt::format("{} ({} blocks)", size_text(end_blocks * block_size), end_blocks));
  line("Journals:", fmt::format("{}", options.journals));
  line("Journal size:", fmt::format("{} MiB", placement.journal_mebibytes));
  line("Resource groups:", fmt::format("{}", placement.groups.size()));
  line("Locking protocol:", fmt::format("\"{}\"", options.lock_protocol));
  line("Lock table:", fmt::format("\"{}\"", options.lock_table));
  line("UUID:", uuid);
  return text;
}

std::string layout_details(const VolumeImage& image) {
  const Placement& placement = image.placement();
  std::string text;
  auto out = std::back_inserter(text);
  if (placement.alignment.enabled()) {
    fmt::format_to(out, "Resource groups begin at multiples of {} blocks, behind whole stripes of {} blocks\n",
                   placement.alignment.unit_blocks, placement.alignment.width_blocks);
  } else {
    fmt::format_to(out, "Resource groups are not aligned to stripes\n");
  }
  for (std::size_t i = 0; i < placement.groups.size(); ++i) {
    const PlacedGroup& group = placement.groups[i];
    fmt::format_to(out, "Resource group {}: header {} + {} blocks, data {} + {} blocks, {} free", i, group.addr.value,
                   group.shape.length, group.data0().value, group.shape.data, group.free());
    if (i < placement.nodes.size())
      fmt::format_to(out, ", journal{} at inode {}", i, placement.nodes[i].journal.dinode().value);
    fmt::format_to(out, "\n");
  }
  return text;
}

void ProgressLine::update(WritePhase phase, std::uint64_t done_bytes, std::uint64_t total_bytes) {
  if (!shown_) return;
  const char* what = phase == WritePhase::discarding ? "Discarding" : "Writing";
  const std::uint64_t percent = total_bytes == 0 ? 100 : done_bytes * 100 / total_bytes;
  std::string line = fmt::format("{}: {:3}% of {}", what, percent, size_text(total_bytes));
  if (line == line_) return;
  fmt::print("\r{:<60}", line);
  std::fflush(stdout);
  line_ = std::move(line);
}

void ProgressLine::end() {
  if (line_.empty()) return;
  fmt::print("\r{:<60}\r", "");
  std::fflush(stdout);
  line_.clear();
}

bool confirm_overwrite(const std::string& device, const std::string& contents) {
  fmt::print("{} contains {}.\nAll of it will be lost. Go on? [y/N] ", device, contents);
  std::fflush(stdout);
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

}  // namespace corral::mkfs
