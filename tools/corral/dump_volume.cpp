#include "tools/corral/dump_volume.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "base/parse_number.h"
#include "cluster/address.h"
#include "cluster/area.h"
#include "fs/bitmap.h"
#include "journal/log_head.h"
#include "offline/journals.h"
#include "ondisk/field_table.h"
#include "tools/adopt/group_blocks.h"

namespace corral {

using ondisk::be64;
using ondisk::MetaType;
using ondisk::view;

namespace {

DumpJson value_of(const ondisk::Field& field, std::span<const std::byte> bytes) {
  switch (field.kind) {
    case ondisk::FieldKind::number:
      return ondisk::field_number(field, bytes);
    case ondisk::FieldKind::signed_number:
      return static_cast<std::int64_t>(ondisk::field_number(field, bytes));
    default:
      return ondisk::describe_field(field, bytes);
  }
}

void add_fields(std::span<const ondisk::Field> fields, std::span<const std::byte> bytes, DumpJson& into) {
  for (const ondisk::Field& field : fields)
    into[std::string(field.name)] = value_of(field, bytes);
}

bool is_metadata(std::span<const std::byte> block) {
  return view<ondisk::MetaHeader>(block).magic == ondisk::kMagic;
}

/// A metadata block's place, type and fields.
DumpJson fields_of_block(std::span<const std::byte> block, BlockNo number) {
  const MetaType type = view<ondisk::MetaHeader>(block).meta_type();
  DumpJson dump = {{"block", number.value}, {"type", ondisk::describe_type(type)}};
  add_fields(ondisk::fields_of(type), block, dump);
  return dump;
}

std::string hex_lines(std::span<const std::byte> bytes) {
  std::string text;
  constexpr std::size_t kPerLine = 16;
  for (std::size_t at = 0; at < bytes.size(); at += kPerLine) {
    const auto line = bytes.subspan(at, std::min(kPerLine, bytes.size() - at));
    if (std::ranges::all_of(line, [](std::byte byte) { return byte == std::byte{0}; })) continue;
    text += fmt::format("{:06x} ", at);
    for (std::byte byte : line)
      text += fmt::format(" {:02x}", std::to_integer<int>(byte));
    text += '\n';
  }
  return text;
}

}  // namespace

Task<Result<DumpJson>> VolumeDump::superblock() const {
  AlignedBuffer sector(std::max<std::size_t>(volume_.device().geometry().sector_bytes, ondisk::kBasicBlockBytes),
                       false);
  CO_TRY_VOID(co_await volume_.device().read(ondisk::kSuperblockOffsetBytes, sector.span()));
  co_return fields_of_block(sector.span(), volume_.geometry().superblock());
}

Task<Result<DumpJson>> VolumeDump::resource_groups() const {
  CO_TRY(const std::vector<ondisk::ResourceGroupIndexEntry> entries, co_await read_rindex(volume_));
  DumpJson groups = DumpJson::array();
  for (const ondisk::ResourceGroupIndexEntry& entry : entries) {
    DumpJson group;
    add_fields(ondisk::rindex_fields(), std::as_bytes(std::span(&entry, 1)), group);
    CO_TRY(AlignedBuffer header, co_await volume_.read_block(BlockNo(entry.addr)));
    add_fields(ondisk::fields_of(MetaType::resource_group), std::as_const(header).span(), group);
    groups.push_back(std::move(group));
  }
  co_return groups;
}

Task<Result<>> VolumeDump::add_log_blocks(JournalAccess journal, std::uint32_t first, std::uint32_t count,
                                          DumpJson& into) const {
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t place = journal.forward(first, i);
    const BlockNo number = journal.map.block_at(place);
    CO_TRY(const AlignedBuffer block, co_await volume_.read_block(number));
    if (!is_metadata(block.span())) {
      into.push_back({{"journal_block", place}, {"block", number.value}, {"type", "data or a logged block"}});
      continue;
    }
    DumpJson dump = {{"journal_block", place}};
    dump.update(fields_of_block(block.span(), number));
    add_details(block.span(), number, volume_.superblock().fs_format, dump);
    into.push_back(std::move(dump));
  }
  co_return Result<>{};
}

Task<Result<DumpJson>> VolumeDump::journal(std::uint32_t number, bool all) const {
  CO_TRY(const std::vector<OfflineJournal> journals, co_await find_journals(volume_));
  if (number >= journals.size())
    co_return fail(ENOENT, "no journal {}: the volume has {}, numbered from 0", number, journals.size());
  const JournalMap& map = journals[number].map;
  const JournalAccess access{executor_, volume_.device(), volume_.geometry(), map};
  CO_TRY(const JournalHead head, co_await find_head(access));
  DumpJson dump = {{"journal", number},           {"inode", journals[number].inode.value},
                   {"blocks", map.size_blocks()}, {"clean", head.clean()},
                   {"sequence", head.sequence},   {"head", head.block},
                   {"tail", head.tail},           {"log", DumpJson::array()}};
  const std::uint32_t active = head.found ? access.distance(head.tail, head.block) + 1 : 0;
  CO_TRY_VOID(co_await add_log_blocks(access, all ? 0 : head.tail, all ? map.size_blocks() : active, dump["log"]));
  co_return dump;
}

Task<Result<OfflineInode>> VolumeDump::find(std::string path_or_number) const {
  if (const auto number = parse_number<std::uint64_t>(path_or_number))
    co_return co_await volume_.read_inode(BlockNo(*number));
  if (path_or_number == "master") co_return co_await volume_.read_inode(BlockNo(volume_.superblock().master_dir.addr));
  if (!path_or_number.starts_with('/'))
    co_return fail(EINVAL, "'{}' is neither a number nor a path from the root (/...) nor \"master\"", path_or_number);
  CO_TRY(OfflineInode inode, co_await volume_.read_inode(BlockNo(volume_.superblock().root_dir.addr)));
  for (std::size_t at = 1; at < path_or_number.size();) {
    const std::size_t end = std::min(path_or_number.find('/', at), path_or_number.size());
    const std::string name = path_or_number.substr(at, end - at);
    at = end + 1;
    if (name.empty()) continue;
    auto next = co_await volume_.find(inode, name);
    if (!next && next.error().code() == ENOENT) co_return fail(ENOENT, "there is no {}", path_or_number.substr(0, end));
    if (!next) co_return std::unexpected(next.error());
    inode = *std::move(next);
  }
  co_return inode;
}

/// Those of the inode's block of attributes, or of the several that an indirect block leads to.
Task<Result<DumpJson>> VolumeDump::attributes(const OfflineInode& inode) const {
  const BlockNo first(inode.dinode().eattr);
  CO_TRY(const AlignedBuffer block, co_await volume_.read_block(first));
  if (!ondisk::has_meta_type(block.span(), MetaType::indirect))
    co_return attributes_of(block.span(), first, volume_.superblock().fs_format);
  DumpJson all = DumpJson::array();
  for (const be64& pointer : ondisk::pointers(block.span(), sizeof(ondisk::MetaHeader))) {
    if (pointer == 0) continue;
    CO_TRY(const AlignedBuffer part, co_await volume_.read_block(BlockNo(pointer)));
    for (DumpJson& one : attributes_of(part.span(), BlockNo(pointer), volume_.superblock().fs_format))
      all.push_back(std::move(one));
  }
  co_return all;
}

Task<Result<DumpJson>> VolumeDump::inode(std::string path_or_number) const {
  CO_TRY(const OfflineInode inode, co_await find(path_or_number));
  DumpJson dump = fields_of_block(inode.block(), inode.number());
  if (inode.dinode().eattr != 0) {
    auto found = co_await attributes(inode);
    dump["attributes"] = found ? *std::move(found) : DumpJson::array({{{"damage", found.error().describe()}}});
  }
  if (inode.dinode().height == 0) {
    if (inode.is_directory() && !inode.is_hashed_directory())
      dump["entries"] = dirents_of(inode.block(), inode.number());
    co_return dump;
  }
  DumpJson extents = DumpJson::array();
  CO_TRY(const std::vector<FileExtent> map,
         co_await volume_.map(inode, FileBlock(volume_.geometry().blocks_for(inode.size_bytes()))));
  for (const FileExtent& extent : map)
    extents.push_back({{"file_block", extent.first.value}, {"block", extent.start.value}, {"length", extent.length}});
  dump["extents"] = std::move(extents);
  co_return dump;
}

Task<Result<DumpJson>> VolumeDump::leaves(const OfflineInode& directory) const {
  const std::uint64_t table_bytes = std::uint64_t{8} << ondisk::kDirMaxDepth;
  CO_TRY(const std::vector<std::byte> table, co_await volume_.read_contents(directory, table_bytes));
  DumpJson leaves = DumpJson::array();
  std::set<std::uint64_t> seen;
  for (std::size_t at = 0; at + sizeof(be64) <= table.size(); at += sizeof(be64)) {
    be64 pointer;
    std::memcpy(&pointer, table.data() + at, sizeof(pointer));
    // A leaf has one pointer or several beside each other, and may have others behind it.
    for (std::uint64_t leaf = pointer; leaf != 0 && seen.insert(leaf).second;) {
      CO_TRY(const AlignedBuffer block, co_await volume_.read_block(BlockNo(leaf)));
      const Result<> sound = ondisk::check_leaf(block.span(), BlockNo(leaf), directory.dinode().depth);
      if (!sound) leaves.push_back({{"block", leaf}, {"damage", sound.error().describe()}});
      if (!sound) break;
      DumpJson dump = {{"first_index", at / sizeof(be64)}};
      dump.update(fields_of_block(block.span(), BlockNo(leaf)));
      dump["entries"] = dirents_of(block.span(), BlockNo(leaf));
      leaves.push_back(std::move(dump));
      leaf = view<ondisk::Leaf>(block.span()).next;
    }
  }
  co_return leaves;
}

Task<Result<DumpJson>> VolumeDump::directory(std::string path_or_number) const {
  CO_TRY(const OfflineInode directory, co_await find(path_or_number));
  if (!directory.is_directory()) co_return fail(ENOTDIR, "inode {} is no directory", directory.number().value);
  DumpJson dump = {{"inode", directory.number().value}, {"di_depth", directory.dinode().depth.value()}};
  if (directory.is_hashed_directory()) {
    CO_TRY(dump["leaves"], co_await leaves(directory));
  } else {
    dump["entries"] = dirents_of(directory.block(), directory.number());
  }
  co_return dump;
}

namespace {
DumpJson describe(const cluster::Header& header) {
  DumpJson acknowledged = DumpJson::array();
  for (std::uint32_t i = 0; i < cluster::kSlots; ++i) {
    const cluster::FenceAcknowledgement& one = header.acknowledged[i];
    if (one.incarnation)
      acknowledged.push_back({{"slot", i}, {"incarnation", one.incarnation.value}, {"heartbeat", one.heartbeat}});
  }
  return {{"generation", header.generation},
          {"cluster", ondisk::describe_uuid(std::as_bytes(std::span(header.cluster)))},
          {"failure_timeout_ms", header.settings.failure_timeout_ms},
          {"quorum", static_cast<std::uint32_t>(header.settings.quorum)},
          {"port", header.settings.port},
          {"fence", static_cast<unsigned>(header.settings.fence)},
          {"fence_agent", header.settings.fence_agent},
          {"fence_agent_options", header.settings.fence_agent_options},
          {"acknowledged", std::move(acknowledged)},
          {"expelled", header.expelled}};
}

DumpJson describe(const cluster::ViewRecord& record) {
  DumpJson members = DumpJson::array();
  for (const Member& member : record.view.members)
    members.push_back({{"slot", member.node.value}, {"incarnation", member.incarnation.value}});
  return {{"generation", record.generation},
          {"cluster", ondisk::describe_uuid(std::as_bytes(std::span(record.cluster)))},
          {"number", record.view.number.value},
          {"leader", record.leader.value},
          {"expected_nodes", record.expected_nodes},
          {"members", std::move(members)}};
}

DumpJson describe(const cluster::Slot& slot) {
  static constexpr std::array<const char*, 3> kStates{"free", "joining", "member"};
  DumpJson hears = DumpJson::array();
  for (std::uint32_t i = 0; i < cluster::kSlots; ++i)
    if (slot.hears[i]) hears.push_back(i);
  DumpJson addresses = DumpJson::array();
  for (const cluster::Address& address : slot.addresses)
    addresses.push_back(cluster::describe_address(address));
  return {{"state", kStates.at(static_cast<std::size_t>(slot.state))},
          {"name", slot.name},
          {"incarnation", slot.incarnation.value},
          {"key", fmt::format("{:#018x}", slot.key)},
          {"heartbeat", slot.heartbeat},
          {"view", slot.view.value},
          {"protocol_version", slot.protocol_version},
          {"cycle_ms", slot.cycle_ms},
          {"health", slot.health},
          {"port", slot.port},
          {"addresses", std::move(addresses)},
          {"hears", std::move(hears)}};
}

template <class T>
void add_record(const Result<T>& record, DumpJson name, DumpJson& into) {
  DumpJson dump = std::move(name);
  if (record) {
    dump.update(describe(*record));
  } else {
    dump["damage"] = record.error().describe();
  }
  into.push_back(std::move(dump));
}
}  // namespace

Task<Result<DumpJson>> VolumeDump::cluster_area() const {
  CO_TRY(const cluster::ClusterArea area, co_await cluster::ClusterArea::find(volume_));
  AlignedBuffer bytes(cluster::kAreaBytes, false);
  CO_TRY_VOID(co_await volume_.device().read(area.offset_bytes(), bytes.span()));
  auto record = [&](std::uint64_t index) {
    return std::as_const(bytes).span().subspan(index * cluster::kRecordBytes, cluster::kRecordBytes);
  };
  DumpJson dump = {{"offset_bytes", area.offset_bytes()}};
  for (std::uint64_t copy : {0, 1}) {
    add_record(cluster::decode_header(record(cluster::kHeaderRecord + copy)), {{"copy", copy}}, dump["headers"]);
    add_record(cluster::decode_view(record(cluster::kViewRecord + copy)), {{"copy", copy}}, dump["views"]);
  }
  dump["slots"] = DumpJson::array();
  for (std::uint32_t id = 0; id < cluster::kSlots; ++id) {
    auto slot = cluster::decode_slot(record(cluster::kFirstSlotRecord + id), NodeId(id));
    // Never used.
    if (slot && !slot->incarnation) continue;
    add_record(slot, {{"slot", id}}, dump["slots"]);
  }
  co_return dump;
}

Task<Result<DumpJson>> VolumeDump::block(std::string number) const {
  const auto parsed = parse_number<std::uint64_t>(number);
  if (!parsed) co_return fail(EINVAL, "'{}' is no number of a block", number);
  CO_TRY(const AlignedBuffer block, co_await volume_.read_block(BlockNo(*parsed)));
  DumpJson dump = is_metadata(block.span()) ? fields_of_block(block.span(), BlockNo(*parsed))
                                            : DumpJson{{"block", *parsed}, {"type", "no metadata"}};
  if (is_metadata(block.span())) add_details(block.span(), BlockNo(*parsed), volume_.superblock().fs_format, dump);
  dump["bytes"] = hex_lines(block.span());
  co_return dump;
}

namespace {
void add_lines(const DumpJson& dump, std::size_t indent, std::string& text) {
  const std::string margin(indent, ' ');
  for (const auto& [name, value] : dump.items()) {
    const bool list = value.is_array() && !value.empty() && value.front().is_object();
    if (list) {
      text += fmt::format("{}{}:\n", margin, name);
      for (const DumpJson& one : value) {
        add_lines(one, indent + 4, text);
        text += '\n';
      }
    } else if (value.is_string() && value.get_ref<const std::string&>().find('\n') != std::string::npos) {
      text += fmt::format("{}{}:\n{}", margin, name, value.get<std::string>());
    } else {
      text += fmt::format("{}{:<28} {}\n", margin, name,
                          value.is_string() ? value.get<std::string>()
                                            : value.dump(-1, ' ', false, DumpJson::error_handler_t::replace));
    }
  }
}
}  // namespace

std::string VolumeDump::text(const DumpJson& dump) {
  std::string text;
  if (dump.is_array()) {
    for (const DumpJson& one : dump) {
      add_lines(one, 0, text);
      text += '\n';
    }
  } else {
    add_lines(dump, 0, text);
  }
  return text;
}

}  // namespace corral
