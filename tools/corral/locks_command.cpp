#include "tools/corral/locks_command.h"

#include <cstdio>

#include <fmt/format.h>

#include "tools/corral/find_paths.h"
#include "tools/corral/watched_volume.h"

namespace corral {

using nlohmann::json;

namespace {

constexpr int kFailed = 8;

std::optional<BlockNo> inode_of(const json& resource) {
  if (resource.value("type", "") != "inode") return std::nullopt;
  return BlockNo(resource.value("number", std::uint64_t{0}));
}

Task<Result<>> find_paths_into(const VolumeReader& volume, std::set<BlockNo> wanted,
                               std::map<BlockNo, std::string>& paths) {
  CO_TRY(paths, co_await find_paths(volume, std::move(wanted)));
  co_return Result<>{};
}

/// Gives the resources of the answer that are inodes their paths.
Result<> add_paths(const std::string& directory, json& answer) {
  std::set<BlockNo> wanted;
  for (const json& resource : answer["resources"])
    if (auto inode = inode_of(resource)) wanted.insert(*inode);
  std::map<BlockNo, std::string> paths;
  TRY_VOID(with_watched_volume(device_behind(directory), [&](Executor&, const VolumeReader& volume) {
    return find_paths_into(volume, std::move(wanted), paths);
  }));
  for (json& resource : answer["resources"]) {
    const auto inode = inode_of(resource);
    if (const auto path = inode ? paths.find(*inode) : paths.end(); path != paths.end())
      resource["path"] = path->second;
  }
  return {};
}

/// What the locks of one answer are shown with.
class Lines {
 public:
  explicit Lines(const json& answer) : names_(answer.value("names", json::object())) {}

  std::string resource(const json& resource) const {
    std::string text = resource.value("resource", "?");
    if (resource.contains("number"))
      text = fmt::format("{} {}", resource.value("type", ""), resource.value("number", std::uint64_t{0}));
    if (resource.contains("path")) text += fmt::format(" {}", resource["path"].get<std::string>());
    text += fmt::format(" ({})", resource.value("lockspace", ""));
    const auto master = resource.find("master");
    text += master == resource.end() || master->is_null() ? ", master not known"
                                                          : ", master " + node(master->get<std::uint32_t>());
    for (const json& blocker : resource.value("blocked_by", json::array()))
      text += ", blocked until the journal of " + node(blocker.get<std::uint32_t>()) + " is replayed";
    text += '\n';
    for (const json& one : resource.value("locks", json::array()))
      text += lock(one);
    for (const json& one : resource.value("ranges", json::array()))
      text += range(one);
    return text;
  }

 private:
  std::string node(std::uint32_t slot) const {
    return names_.value(fmt::format("{}", slot), fmt::format("node {}", slot));
  }

  std::string seconds(const json& entry) const { return fmt::format("{:.3f} s", entry.value("for_ms", 0.0) / 1000); }

  std::string lock(const json& lock) const {
    const bool granted = lock.contains("granted") && lock["granted"].is_string();
    const bool waits = lock.contains("requested") && lock["requested"].is_string();
    std::string text = fmt::format("    {:<20}", node(lock.value("slot", 0u)));
    text += granted ? " has " + lock["granted"].get<std::string>() : "";
    text += waits ? fmt::format("{} wants {}, for {}", granted ? "," : "", lock["requested"].get<std::string>(),
                                seconds(lock))
                  : "";
    const json waits_for = lock.value("waits_for", json::array());
    for (std::size_t i = 0; i < waits_for.size(); ++i)
      text += (i == 0 ? ", behind " : ", ") + node(waits_for[i].value("slot", 0u));
    return text + '\n';
  }

  std::string range(const json& range) const {
    std::string text = fmt::format("    {:<20} process {} {} {} lock on bytes {} to {}", node(range.value("slot", 0u)),
                                   range.value("process", 0u), range.value("waiting", false) ? "wants" : "has",
                                   range.value("mode", ""), range.value("first", std::uint64_t{0}),
                                   range.value("last", std::uint64_t{0}));
    if (range.value("waiting", false)) text += ", for " + seconds(range);
    const json waits_for = range.value("waits_for", json::array());
    for (std::size_t i = 0; i < waits_for.size(); ++i)
      text += (i == 0 ? ", behind " : ", ") + node(waits_for[i].value("slot", 0u));
    return text + '\n';
  }

  json names_;
};

}  // namespace

LocksCommand::LocksCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("locks", "Show who waits for which lock, and who holds it");
  command->add_option("directory", directory_, "Mount point")->required();
  command->add_flag("-a,--all", all_, "Also locks that nobody waits for");
  command->add_flag("-p,--paths", paths_, "Look for the inodes' paths on the disk, directory by directory");
  command->add_flag("--json", json_, "Report as JSON");
  command->callback([this, &status] { status = run(); });
}

std::string LocksCommand::text(const json& answer) {
  const Lines lines(answer);
  std::string text;
  const json resources = answer.value("resources", json::array());
  for (const json& resource : resources)
    text += lines.resource(resource);
  if (const auto left_out = answer.value("resources_left_out", std::uint64_t{0}); left_out > 0)
    text += fmt::format("and {} more\n", left_out);
  const json glocks = answer.value("glocks_waited_for", json::array());
  if (!glocks.empty()) text += "Glocks of this mount that are on their way:\n";
  for (const json& glock : glocks)
    text += "    " + glock.get<std::string>() + '\n';
  if (text.empty()) text = "Nobody waits for a lock.\n";
  return text;
}

int LocksCommand::run() const {
  auto mount = mount_at(directory_);
  auto answer = mount ? mount->ask({{"command", "locks"}, {"all", all_}}) : std::unexpected(mount.error());
  if (!answer) {
    fmt::print(stderr, "corral: {}\n", answer.error().describe());
    return kFailed;
  }
  if (const Result<> found = paths_ ? add_paths(directory_, *answer) : Result<>{}; !found)
    fmt::print(stderr, "corral: no paths: {}\n", found.error().describe());
  if (json_) {
    fmt::print("{}\n", answer->dump(2, ' ', false, json::error_handler_t::replace));
  } else {
    fmt::print("{}", text(*answer));
  }
  return 0;
}

}  // namespace corral
