// The less usual operations of a client: what POSIX has beside reading and writing, and what makes structures grow.
#include <algorithm>
#include <array>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "ondisk/layout.h"
#include "test/sim/workload.h"
#include "test/support/directory_names.h"

namespace corral::sim {

namespace {

constexpr Caller kRoot{.uid = 0, .gid = 0, .pid = 1, .umask = 0};
constexpr std::string_view kAccessAcl = "system.posix_acl_access";
constexpr std::uint32_t kFirstOwner = 1000;
constexpr std::uint32_t kOwners = 4;
constexpr std::size_t kMostOrphans = 8;

struct AclEntry {
  std::uint16_t tag, permissions;
  std::uint32_t id;
};

/// An access ACL as its xattr: owner, one named user, group, mask and others.
std::string access_acl(std::uint16_t owner, std::uint16_t named, std::uint16_t mask, std::uint16_t others) {
  constexpr std::uint32_t kVersion = 2;
  constexpr std::uint32_t kNoId = 0xFFFFFFFF;
  const std::array entries{AclEntry{1, owner, kNoId}, AclEntry{2, named, 1234}, AclEntry{4, 5, kNoId},
                           AclEntry{16, mask, kNoId}, AclEntry{32, others, kNoId}};
  std::string bytes(sizeof(kVersion) + sizeof(entries), '\0');
  std::memcpy(bytes.data(), &kVersion, sizeof(kVersion));
  std::memcpy(bytes.data() + sizeof(kVersion), entries.data(), sizeof(entries));
  return bytes;
}

void zero(Bytes& contents, std::uint64_t begin, std::uint64_t end) {
  end = std::min<std::uint64_t>(end, contents.size());
  for (std::uint64_t i = begin; i < end; ++i)
    contents[i] = std::byte{0};
}

}  // namespace

Task<Result<>> Client::special_step() {
  const std::uint64_t choice = random_.below(100);
  if (choice < 14) co_return co_await exchange_names();
  if (choice < 26) co_return co_await toggle_journaled_data();
  if (choice < 42) co_return co_await allocate_range();
  if (choice < 52) co_return co_await change_owner();
  if (choice < 62) co_return co_await set_acl();
  if (choice < 72) co_return co_await open_and_unlink();
  if (choice < 80) co_return co_await close_orphan();
  if (choice < 88) co_return co_await name_the_nameless();
  if (choice < 94) co_return co_await copy_part();
  if (choice < 98) co_return co_await write_through();
  co_return co_await crowd_directory();
}

Task<Result<>> Client::exchange_names() {
  auto one = any_name();
  auto other = any_name();
  if (!one || !other || one->node == other->node) co_return co_await make_file();
  const bool loops = is_below(other->directory, one->node) || is_below(one->directory, other->node);
  if (loops) co_return co_await read_back();
  begin({one->directory, other->directory, one->node, other->node});
  CO_TRY_VOID(co_await operations_.rename(tree_[one->directory].inode, one->name, tree_[other->directory].inode,
                                          other->name, RenameMode::exchange));
  tree_[one->directory].entries[one->name] = other->node;
  tree_[other->directory].entries[other->name] = one->node;
  co_return Result<>{};
}

Task<Result<>> Client::toggle_journaled_data() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  begin({*file});
  const std::uint32_t flags = tree_[*file].flags ^ FS_JOURNAL_DATA_FL;
  CO_TRY_VOID(co_await operations_.set_flags(tree_[*file].inode, flags, kRoot));
  tree_[*file].flags = flags;
  co_return Result<>{};
}

Task<Result<>> Client::allocate_range() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  constexpr std::array kModes{0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
  const int mode = kModes[random_.below(kModes.size())];
  const std::uint64_t offset = random_.below(40'000);
  const std::uint64_t end = offset + random_.between(1, 30'000);
  begin({*file});
  Result<> done = co_await operations_.fallocate(tree_[*file].inode, mode, offset, end - offset);
  if (!done && done.error().code() == ENOSPC) co_return co_await take_contents(*file);
  CO_TRY_VOID(done);
  Bytes contents = *tree_[*file].contents;
  if ((mode & FALLOC_FL_ZERO_RANGE) != 0) zero(contents, offset, end);
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && contents.size() < end) contents.resize(end);
  tree_[*file].contents = std::make_shared<Bytes>(std::move(contents));
  co_return Result<>{};
}

Task<Result<>> Client::change_owner() {
  auto file = any(random_.chance(1, 4) ? NodeType::directory : NodeType::file);
  if (!file) co_return co_await make_file();
  AttributeChange change;
  change.uid = kFirstOwner + static_cast<std::uint32_t>(random_.below(kOwners));
  change.gid = kFirstOwner + static_cast<std::uint32_t>(random_.below(kOwners));
  begin({*file});
  CO_TRY_VOID(co_await operations_.set_attributes(tree_[*file].inode, change, kRoot));
  tree_[*file].uid = *change.uid;
  tree_[*file].gid = *change.gid;
  co_return Result<>{};
}

Task<Result<>> Client::set_acl() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  const auto owner = static_cast<std::uint16_t>(random_.below(8));
  const auto mask = static_cast<std::uint16_t>(random_.below(8));
  const auto others = static_cast<std::uint16_t>(random_.below(8));
  const std::string acl = access_acl(owner, static_cast<std::uint16_t>(random_.below(8)), mask, others);
  const auto bytes = std::as_bytes(std::span(acl));
  begin({*file});
  CO_TRY_VOID(co_await operations_.set_xattr(tree_[*file].inode, std::string(kAccessAcl), {bytes.begin(), bytes.end()},
                                             SetMode::create_or_replace, false));
  tree_[*file].xattrs[std::string(kAccessAcl)] = acl;
  tree_[*file].mode = static_cast<std::uint32_t>(owner << 6 | mask << 3 | others);
  co_return Result<>{};
}

/// A file that lives on without a name, and is written; a crash must leave nothing of it.
Task<Result<>> Client::open_and_unlink() {
  if (orphans_.size() >= kMostOrphans) co_return co_await close_orphan();
  const std::string name = fresh_name(0);
  begin({0});
  NewNode wanted;
  wanted.mode = S_IFREG | 0600;
  CO_TRY(Entry entry, co_await operations_.create(tree_[0].inode, name, wanted, kRoot));
  const BlockNo inode = entry.attributes.inode;
  CO_TRY_VOID(co_await operations_.open(inode, O_RDWR));
  CO_TRY_VOID(co_await operations_.unlink(tree_[0].inode, name));
  orphans_.push_back(inode);
  CO_TRY_VOID(co_await operations_.write(inode, 0, random_bytes(random_.between(1, 60'000)), {}));
  co_return co_await operations_.fsync(inode, false);
}

Task<Result<>> Client::close_orphan() {
  if (orphans_.empty()) co_return co_await open_and_unlink();
  const std::size_t index = random_.below(orphans_.size());
  const BlockNo inode = orphans_[index];
  orphans_.erase(orphans_.begin() + static_cast<std::ptrdiff_t>(index));
  operations_.release(inode, O_RDWR);
  operations_.forget(inode, 1);
  co_return Result<>{};
}

/// O_TMPFILE, contents, and then a name.
Task<Result<>> Client::name_the_nameless() {
  if (tree_.size() > kMostFiles) co_return co_await remove_name();
  const ModelNodeId directory = any_directory();
  const std::string name = fresh_name(directory);
  begin({directory, next_node_});
  CO_TRY(Entry entry, co_await operations_.create_unnamed(tree_[directory].inode, 0640, kRoot));
  Node node;
  node.mode = 0640;
  node.uid = 0;
  node.gid = 0;
  node.inode = entry.attributes.inode;
  Bytes contents = random_bytes(random_.between(0, 9'000));
  Result<std::size_t> written = 0;
  if (!contents.empty()) written = co_await operations_.write(node.inode, 0, contents, {});
  Result<Entry> linked = std::unexpected(written ? Error(0) : written.error());
  if (written) linked = co_await operations_.link(node.inode, tree_[directory].inode, name);
  operations_.forget(node.inode, 1);
  CO_TRY_VOID(linked);
  contents.resize(*written);
  node.contents = std::make_shared<Bytes>(std::move(contents));
  add(directory, name, std::move(node));
  co_return Result<>{};
}

Task<Result<>> Client::copy_part() {
  auto from = any(NodeType::file);
  auto to = any(NodeType::file);
  if (!from || !to || *from == *to) co_return co_await make_file();
  const std::uint64_t from_offset = random_.below(tree_[*from].contents->size() + 1);
  const std::uint64_t to_offset = random_.below(tree_[*to].contents->size() + 1);
  const std::uint64_t length = random_.between(1, 20'000);
  begin({*to});
  CO_TRY(const std::size_t copied,
         co_await operations_.copy_range(tree_[*from].inode, from_offset, tree_[*to].inode, to_offset, length));
  const Bytes& source = *tree_[*from].contents;
  if (copied > source.size() - from_offset) {
    disagreement_ = fmt::format("{}: {} bytes copied of {}", name_, copied, source.size() - from_offset);
    co_return Result<>{};
  }
  Bytes contents = *tree_[*to].contents;
  if (contents.size() < to_offset + copied) contents.resize(to_offset + copied);
  std::copy_n(source.begin() + static_cast<std::ptrdiff_t>(from_offset), copied,
              contents.begin() + static_cast<std::ptrdiff_t>(to_offset));
  tree_[*to].contents = std::make_shared<Bytes>(std::move(contents));
  co_return Result<>{};
}

/// O_SYNC at the end of the file: stable when it returns.
Task<Result<>> Client::write_through() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  const Bytes data = random_bytes(random_.between(1, 9'000));
  begin({*file});
  CO_TRY(const std::size_t written,
         co_await operations_.write(tree_[*file].inode, 0, data, {.flags = O_APPEND | O_SYNC}));
  Bytes contents = *tree_[*file].contents;
  contents.insert(contents.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(written));
  tree_[*file].contents = std::make_shared<Bytes>(std::move(contents));
  syncs_.push_back({disk_.event_count(), records_.size(), tree_, *file});
  co_return Result<>{};
}

/// A directory that grows from the inode to a hash table, whose leaves split, double the table and, where names have
/// the same hash, chain; then it loses most of its names.
Task<Result<>> Client::crowd_directory() {
  const std::uint32_t hash = static_cast<std::uint32_t>(random_.next());
  const bool collide = random_.chance(1, 3);
  const ModelNodeId parent = any_directory();
  const std::string name = fresh_name(parent);
  begin({parent, next_node_});
  NewNode wanted;
  wanted.mode = S_IFDIR | 0755;
  CO_TRY(Entry made, co_await operations_.create(tree_[parent].inode, name, wanted, kRoot));
  Node directory;
  directory.type = NodeType::directory;
  directory.mode = 0755;
  directory.uid = 0;
  directory.gid = 0;
  directory.inode = made.attributes.inode;
  const BlockNo inode = directory.inode;
  const ModelNodeId id = add(parent, name, std::move(directory));
  auto target = any(NodeType::file);
  if (!target) co_return Result<>{};
  begin({id, *target});
  std::vector<std::string> names;
  const std::uint64_t count = collide ? random_.between(10, 40) : random_.between(30, 300);
  for (std::uint64_t i = 0; i < count; ++i) {
    names.push_back(collide ? test::name_with_hash(random_, 200, hash)
                            : fmt::format("crowd {} {}", i, std::string(random_.below(60), 'c')));
    CO_TRY(Entry entry, co_await operations_.link(tree_[*target].inode, inode, names.back()));
    operations_.forget(entry.attributes.inode, 1);
    ++tree_[*target].links;
    tree_[id].entries[names.back()] = *target;
  }
  for (const std::string& each : names) {
    if (random_.chance(1, 5)) continue;
    CO_TRY_VOID(co_await operations_.unlink(inode, each));
    tree_[id].entries.erase(each);
    unlink_node(*target);
  }
  co_return Result<>{};
}

}  // namespace corral::sim
