#include "tools/mkfs_corral/command_line.h"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <uuid/uuid.h>

#include "base/parse_number.h"
#include "tools/mkfs/new_cluster.h"

namespace corral::mkfs {

namespace {

constexpr ExitCode kUsageError = 2;

Result<std::uint64_t> number_for(std::string_view name, std::string_view text) {
  if (const auto number = parse_number(text)) return *number;
  return fail(EINVAL, "{} needs a number, not '{}'", name, text);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<> parse_topology(std::string_view text, CommandLine& command) {
  const auto parts = split(text, ':');
  std::vector<std::uint32_t> figures;
  for (std::string_view part : parts) {
    TRY(auto figure, number_for("test_topology", part));
    figures.push_back(static_cast<std::uint32_t>(std::min<std::uint64_t>(figure, 0xFFFFFFFF)));
  }
  if (figures.size() != 5) return fail(EINVAL, "test_topology needs five numbers separated by colons, not '{}'", text);
  command.test_topology = DeviceGeometry{.sector_bytes = figures[1],
                                         .physical_sector_bytes = figures[4],
                                         .minimum_io_bytes = figures[2],
                                         .optimal_io_bytes = figures[3],
                                         .alignment_offset_bytes = figures[0]};
  return {};
}

Result<> check_uuid(const std::string& text, CommandLine& command) {
  if (text.empty()) {
    uuid_generate(command.format.uuid.data());
    return {};
  }
  if (uuid_parse(text.c_str(), command.format.uuid.data()) == 0) return {};
  return fail(EINVAL, "'{}' is no UUID; one looks like 1b4e28ba-2fa1-11d2-883f-b9a761bde3fb", text);
}

/// What CLI11 fills and what needs a second look.
struct RawOptions {
  CommandLine command;
  std::string extended;
  std::string uuid;
  bool no_discard = false;
};

void describe(CLI::App& app, RawOptions& raw) {
  FormatOptions& format = raw.command.format;
  app.set_version_flag("-V,--version", std::string("mkfs.corral ") + CORRAL_VERSION);
  app.add_option("-t,--lock-table", format.lock_table,
                 "CLUSTER:NAME of the volume, at most 32 and 30 letters, digits, - and _")
      ->type_name("CLUSTER:NAME");
  app.add_option("-j,--journals", format.journals, "Number of journals: how many nodes can mount at a time")
      ->capture_default_str();
  app.add_option("-J,--journal-size", format.journal_mebibytes,
                 "MiB of each journal, 8 to 1024 (default: by the volume's size)");
  app.add_option("-b,--block-size", format.block_size, "Bytes of a block: 512, 1024, 2048 or 4096")
      ->capture_default_str();
  app.add_option("-r,--resource-group-size", format.resource_group_mebibytes,
                 "MiB of a resource group, 32 to 2048 (default: by the volume's size)");
  app.add_option("-c,--quota-change-size", format.quota_change_mebibytes, "MiB of each quota change file, 1 to 64")
      ->capture_default_str();
  app.add_option("-p,--lock-protocol", format.lock_protocol, "lock_corral, lock_nolock or lock_dlm")
      ->capture_default_str();
  app.add_option("-U,--uuid", raw.uuid, "UUID of the volume (default: a random one)");
  app.add_option("-o,--extended", raw.extended, "Extended options, separated by commas; -o help lists them");
  app.add_flag("-K,--no-discard", raw.no_discard, "Do not discard the device's contents first");
  app.add_flag("-O,--override,--yes", raw.command.override_contents, "Do not ask: overwrite what is on the device");
  app.add_flag("-q,--quiet", raw.command.quiet, "Print nothing but errors");
  app.add_flag("-D,--debug", raw.command.debug, "Print the layout in detail");
  app.add_option("device", raw.command.device, "Block device or image file");
  app.add_option("block-count", format.block_count, "Size of the volume in blocks (default: the whole device)");
}

Result<> complete(RawOptions& raw, WallTime now) {
  raw.command.format.now = now;
  raw.command.discard = !raw.no_discard;
  if (!raw.extended.empty()) TRY_VOID(apply_extended_options(raw.extended, raw.command));
  if (raw.command.device.empty()) return fail(EINVAL, "no device given");
  TRY_VOID(check_uuid(raw.uuid, raw.command));
  raw.command.format.cluster = new_cluster();
  return check_options(raw.command.format);
}

bool asks_for_extended_help(const std::string& list) {
  const auto parts = split(list, ',');
  return std::find(parts.begin(), parts.end(), "help") != parts.end();
}

}  // namespace

std::string_view extended_options_help() {
  return "Extended options (-o NAME=VALUE,...):\n"
         "  sunit=BYTES     stripe unit of a RAID, in place of what the device reports; with swidth\n"
         "  swidth=BYTES    stripe width of a RAID; with sunit\n"
         "  align=0|1       align resource groups to stripes (default 1)\n"
         "  format=NUMBER   format of the volume: 1801 or 1802 (default 1802)\n"
         "  test_topology=OFFSET:LOGICAL:MINIMUM:OPTIMAL:PHYSICAL\n"
         "                  figures in bytes in place of what the device reports; for tests\n";
}

Result<> apply_extended_options(std::string_view list, CommandLine& command) {
  FormatOptions& format = command.format;
  std::optional<std::uint64_t> unit;
  std::optional<std::uint64_t> width;
  for (std::string_view item : split(list, ',')) {
    const std::size_t equals = item.find('=');
    const std::string_view name = item.substr(0, equals);
    const std::string_view value = equals == item.npos ? std::string_view{} : item.substr(equals + 1);
    if (name == "test_topology") {
      TRY_VOID(parse_topology(value, command));
    } else if (name == "sunit") {
      TRY(unit, number_for(name, value));
    } else if (name == "swidth") {
      TRY(width, number_for(name, value));
    } else if (name == "align") {
      if (value != "0" && value != "1") return fail(EINVAL, "align must be 0 or 1, not '{}'", value);
      format.align = value == "1";
    } else if (name == "format") {
      TRY(auto number, number_for(name, value));
      format.fs_format = static_cast<std::uint32_t>(std::min<std::uint64_t>(number, 0xFFFFFFFF));
    } else {
      return fail(EINVAL, "extended option '{}' is not known; -o help lists them", name);
    }
  }
  if (unit.has_value() != width.has_value()) return fail(EINVAL, "sunit and swidth must be given together");
  if (unit) format.stripe = Stripe{.unit_bytes = *unit, .width_bytes = *width};
  return {};
}

std::variant<CommandLine, ExitCode> parse_command_line(int argc, const char* const* argv, WallTime now) {
  RawOptions raw;
  CLI::App app("Makes a Corral volume (a GFS2 filesystem) on a block device or image file.", "mkfs.corral");
  describe(app, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageError;
  }
  if (asks_for_extended_help(raw.extended)) {
    fmt::print("{}", extended_options_help());
    return 0;
  }
  if (auto complete_or_not = complete(raw, now); !complete_or_not) {
    fmt::print(stderr, "mkfs.corral: {} (--help tells more)\n", complete_or_not.error().describe());
    return kUsageError;
  }
  return std::move(raw.command);
}

}  // namespace corral::mkfs
