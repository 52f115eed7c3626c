#include "tools/corral/inspect_commands.h"

#include <cstdio>

#include <fmt/format.h>

#include "cluster/area.h"
#include "journal/log_head.h"
#include "offline/journals.h"
#include "tools/corral/dump_volume.h"
#include "tools/corral/space_report.h"
#include "tools/corral/watched_volume.h"

namespace corral {

namespace {

constexpr int kFailed = 8;

int report(const Result<>& done, const std::string& device) {
  if (done) return 0;
  const std::string words = done.error().describe();
  fmt::print(stderr, "corral: {}{}\n", words.starts_with(device) ? "" : device + ": ", words);
  return kFailed;
}

void print(const DumpJson& dump, bool as_json) {
  if (as_json) {
    fmt::print("{}\n", dump.dump(2, ' ', false, DumpJson::error_handler_t::replace));
  } else {
    fmt::print("{}", VolumeDump::text(dump));
  }
}

struct DumpRequest {
  std::string what;
  std::string which;
  std::uint32_t journal = 0;
  bool all = false;
  bool json = false;
};

Task<Result<DumpJson>> dump_of(const VolumeDump& dump, const DumpRequest& request) {
  if (request.what == "superblock") co_return co_await dump.superblock();
  if (request.what == "rgrps") co_return co_await dump.resource_groups();
  if (request.what == "journal") co_return co_await dump.journal(request.journal, request.all);
  if (request.what == "inode") co_return co_await dump.inode(request.which);
  if (request.what == "directory") co_return co_await dump.directory(request.which);
  if (request.what == "area") co_return co_await dump.cluster_area();
  co_return co_await dump.block(request.which);
}

Task<Result<>> print_dump(Executor& executor, const VolumeReader& volume, const DumpRequest& request) {
  const VolumeDump dump(executor, volume);
  CO_TRY(const DumpJson found, co_await dump_of(dump, request));
  print(found, request.json);
  co_return Result<>{};
}

}  // namespace

DumpCommand::DumpCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("dump", "Show what stands on a volume, field by field");
  command->require_subcommand(1);
  command->add_flag("--json", json_, "Report as JSON");
  auto add = [&](const std::string& what, const std::string& words) {
    CLI::App* part = command->add_subcommand(what, words);
    part->fallthrough()->add_option("device", device_, "Device, as for mount.corral, or mount point")->required();
    part->callback([this, what, &status] { status = run(what); });
    return part;
  };
  add("superblock", "The superblock");
  add("rgrps", "The resource groups, with their entries in the rindex file");
  CLI::App* journal = add("journal", "A journal's log from tail to head, in order");
  journal->add_option("number", journal_, "Number of the journal, from 0")->required();
  journal->add_flag("-a,--all", all_, "Every block of the journal");
  add("inode", "A dinode, and where its data lies")
      ->add_option("which", which_, "Number of its block, path from the root (/...), or \"master\"")
      ->required();
  add("directory", "A directory's names and leaves")
      ->add_option("which", which_, "Number of its block, path from the root (/...), or \"master\"")
      ->required();
  add("area", "The cluster area, without the secret");
  add("block", "A block's fields and bytes")->add_option("which", which_, "Number of the block")->required();
}

int DumpCommand::run(const std::string& what) const {
  const std::string device = device_behind(device_);
  const DumpRequest request{.what = what, .which = which_, .journal = journal_, .all = all_, .json = json_};
  return report(
      with_watched_volume(device, [&](Executor& executor,
                                      const VolumeReader& volume) { return print_dump(executor, volume, request); }),
      device);
}

namespace {

struct SpaceRequest {
  bool groups = false;
  bool fragmentation = false;
  bool json = false;
};

DumpJson describe(const GroupSpace& group, bool fragmentation) {
  DumpJson dump = {{"ri_addr", group.entry.addr.value()},
                   {"blocks", group.entry.data.value()},
                   {"free", group.free},
                   {"dinodes", group.dinodes}};
  if (!fragmentation) return dump;
  dump["unlinked"] = group.counts.unlinked;
  dump["free_runs"] = group.free_runs;
  dump["longest_free_run"] = group.longest_free;
  return dump;
}

DumpJson sum_of(const std::vector<GroupSpace>& groups, const VolumeReader& volume, const SpaceRequest& request) {
  std::uint64_t blocks = 0;
  std::uint64_t free = 0;
  std::uint64_t dinodes = 0;
  std::uint64_t runs = 0;
  std::uint32_t longest = 0;
  for (const GroupSpace& group : groups) {
    blocks += group.entry.data;
    free += group.free;
    dinodes += group.dinodes;
    runs += group.free_runs;
    longest = std::max(longest, group.longest_free);
  }
  DumpJson sum = {{"block_size", volume.geometry().block_size()},
                  {"resource_groups", groups.size()},
                  {"blocks", blocks},
                  {"used", blocks - std::min(blocks, free)},
                  {"free", free},
                  {"dinodes", dinodes}};
  if (!request.fragmentation) return sum;
  sum["free_runs"] = runs;
  sum["longest_free_run"] = longest;
  return sum;
}

void print_group_lines(const std::vector<GroupSpace>& groups, const SpaceRequest& request) {
  fmt::print("\n{:>12} {:>10} {:>10} {:>6} {:>10}", "Group", "Blocks", "Free", "Free%", "Dinodes");
  if (request.fragmentation) fmt::print(" {:>10} {:>10} {:>12}", "Unlinked", "Free runs", "Longest");
  fmt::print("\n");
  for (const GroupSpace& group : groups) {
    const double part = group.entry.data == 0 ? 0 : 100.0 * group.free / group.entry.data;
    fmt::print("{:>12} {:>10} {:>10} {:>5.1f}% {:>10}", group.entry.addr.value(), group.entry.data.value(), group.free,
               part, group.dinodes);
    if (request.fragmentation)
      fmt::print(" {:>10} {:>10} {:>12}", group.counts.unlinked, group.free_runs, group.longest_free);
    fmt::print("\n");
  }
}

Task<Result<>> print_space(const VolumeReader& volume, SpaceRequest request) {
  CO_TRY(const std::vector<GroupSpace> groups, co_await measure_space(volume, request.fragmentation));
  DumpJson report = sum_of(groups, volume, request);
  if (request.json && request.groups) {
    for (const GroupSpace& group : groups)
      report["groups"].push_back(describe(group, request.fragmentation));
  }
  print(report, request.json);
  if (!request.json && request.groups) print_group_lines(groups, request);
  co_return Result<>{};
}

}  // namespace

DfCommand::DfCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("df", "Show how a volume's space is used, by resource group");
  command->add_option("target", target_, "Device, as for mount.corral, or mount point")->required();
  command->add_flag("-g,--groups", groups_, "Every resource group");
  command->add_flag("-f,--fragmentation", fragmentation_, "Read the bitmaps: runs of free blocks");
  command->add_flag("--json", json_, "Report as JSON");
  command->callback([this, &status] { status = run(); });
}

int DfCommand::run() const {
  const std::string device = device_behind(target_);
  const SpaceRequest request{.groups = groups_, .fragmentation = fragmentation_, .json = json_};
  return report(
      with_watched_volume(device, [&](Executor&, const VolumeReader& volume) { return print_space(volume, request); }),
      device);
}

namespace {

Task<Result<>> print_journals(Executor& executor, const VolumeReader& volume, bool json) {
  CO_TRY(const std::vector<OfflineJournal> journals, co_await find_journals(volume));
  std::vector<cluster::FoundSlot> slots;
  if (auto area = co_await cluster::ClusterArea::find(volume)) {
    CO_TRY(slots, co_await area->read_slots(cluster::kSlots));
  }
  DumpJson list = DumpJson::array();
  for (const OfflineJournal& journal : journals) {
    const auto head = co_await find_head({executor, volume.device(), volume.geometry(), journal.map});
    DumpJson one = {{"journal", journal.id.value},
                    {"inode", journal.inode.value},
                    {"blocks", journal.map.size_blocks()},
                    {"state", !head           ? "damaged"
                              : head->clean() ? "clean"
                                              : "dirty"}};
    if (head && head->found) one["sequence"] = head->sequence;
    const std::size_t id = journal.id.value;
    if (id < slots.size() && slots[id].slot && slots[id].slot->state != cluster::SlotState::free)
      one["node"] = slots[id].slot->name;
    list.push_back(std::move(one));
  }
  if (json) {
    print(list, true);
    co_return Result<>{};
  }
  fmt::print("{:>7} {:>12} {:>10} {:>8} {:>12}  {}\n", "Journal", "Inode", "Blocks", "State", "Sequence", "Slot of");
  for (const DumpJson& one : list)
    fmt::print("{:>7} {:>12} {:>10} {:>8} {:>12}  {}\n", one["journal"].get<std::uint32_t>(),
               one["inode"].get<std::uint64_t>(), one["blocks"].get<std::uint64_t>(), one["state"].get<std::string>(),
               one.value("sequence", std::uint64_t{0}), one.value("node", "-"));
  co_return Result<>{};
}

}  // namespace

JournalsCommand::JournalsCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("journals", "Show the journals of a volume");
  command->require_subcommand(1);
  CLI::App* all = command->add_subcommand("list", "Every journal with its state, and the node in its slot");
  all->add_option("target", target_, "Device, as for mount.corral, or mount point")->required();
  all->add_flag("--json", json_, "Report as JSON");
  all->callback([this, &status] { status = list(); });
}

int JournalsCommand::list() const {
  const std::string device = device_behind(target_);
  return report(
      with_watched_volume(device, [&](Executor& executor,
                                      const VolumeReader& volume) { return print_journals(executor, volume, json_); }),
      device);
}

}  // namespace corral
