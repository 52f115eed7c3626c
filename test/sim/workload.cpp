#include "test/sim/workload.h"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include "ondisk/layout.h"

namespace corral::sim {

namespace {
constexpr Caller kCaller{.uid = 1000, .gid = 1000, .pid = 1, .umask = 0};
constexpr std::uint64_t kUsualBytes = 12'000;
constexpr std::uint64_t kLargeBytes = 400'000;

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
}  // namespace

Client::Client(Operations& operations, const SimulatedDisk& disk, BlockNo root, std::string name, std::uint64_t seed)
    : operations_(operations), disk_(disk), root_(root), name_(std::move(name)), random_(seed) {}

Task<void> Client::run(std::uint32_t count) {
  records_.push_back({disk_.event_count(), {0}});
  NewNode node;
  node.mode = S_IFDIR | 0755;
  auto made = co_await operations_.create(root_, name_, node, kCaller);
  if (!made) {
    if (!expected(made.error())) disagreement_ = fmt::format("{}: cannot be made: {}", name_, made.error().describe());
    co_return;
  }
  Node directory;
  directory.type = NodeType::directory;
  directory.mode = 0755;
  directory.inode = made->attributes.inode;
  tree_.emplace(0, std::move(directory));
  for (std::uint32_t i = 0; i < count && !disagreement_ && !failed(); ++i) {
    Result<> done = co_await step();
    if (!done && !disagreement_ && !expected(done.error())) {
      disagreement_ = fmt::format("{}: operation {}: {}", name_, i, done.error().describe());
    }
  }
  for (BlockNo orphan : std::exchange(orphans_, {})) {
    operations_.release(orphan, O_RDWR);
    operations_.forget(orphan, 1);
  }
  if (disagreement_ || failed()) co_return;
  Result<> synced = co_await sync_all();
  if (!synced && !expected(synced.error()))
    disagreement_ = fmt::format("{}: sync: {}", name_, synced.error().describe());
}

bool Client::expected(const Error& error) {
  if (may_be_full_ && error.code() == ENOSPC) return true;
  if (may_fail_ && (error.code() == EIO || error.code() == EBADE)) failure_ = error;
  return failed();
}

Task<Result<>> Client::take_contents(ModelNodeId file) {
  CO_TRY(const Attributes attributes, co_await operations_.get_attributes(tree_[file].inode));
  AlignedBuffer buffer(attributes.size_bytes + 4096);
  CO_TRY(const std::size_t got, co_await operations_.read(tree_[file].inode, 0, buffer.span()));
  tree_[file].contents =
      std::make_shared<Bytes>(buffer.span().begin(), buffer.span().begin() + static_cast<std::ptrdiff_t>(got));
  co_return Result<>{};
}

Task<Result<>> Client::step() {
  if (random_.chance(1, 4)) co_return co_await special_step();
  const std::uint64_t choice = random_.below(100);
  if (choice < 14) co_return co_await make_file();
  if (choice < 18) co_return co_await make_directory();
  if (choice < 21) co_return co_await make_symlink();
  if (choice < 42) co_return co_await write_file();
  if (choice < 48) co_return co_await truncate_file();
  if (choice < 52) co_return co_await punch_file();
  if (choice < 56) co_return co_await add_link();
  if (choice < 68) co_return co_await remove_name();
  if (choice < 76) co_return co_await rename_name();
  if (choice < 79) co_return co_await change_mode();
  if (choice < 85) co_return co_await set_xattr();
  if (choice < 87) co_return co_await remove_xattr();
  if (choice < 93) co_return co_await read_back();
  if (choice < 98) co_return co_await fsync_file();
  co_return co_await sync_all();
}

void Client::begin(std::vector<ModelNodeId> touched) {
  records_.push_back({disk_.event_count(), std::move(touched)});
}

std::optional<ModelNodeId> Client::any(NodeType type) {
  std::vector<ModelNodeId> fitting;
  for (const auto& [id, node] : tree_) {
    if (node.type == type) fitting.push_back(id);
  }
  if (fitting.empty()) return std::nullopt;
  return fitting[random_.below(fitting.size())];
}

ModelNodeId Client::any_directory() {
  return random_.chance(1, 2) ? 0 : *any(NodeType::directory);
}

std::optional<Client::Name> Client::any_name() {
  std::vector<Name> names;
  for (const auto& [id, node] : tree_) {
    for (const auto& [name, child] : node.entries)
      names.push_back({id, name, child});
  }
  if (names.empty()) return std::nullopt;
  return names[random_.below(names.size())];
}

std::string Client::fresh_name(ModelNodeId directory) {
  for (;;) {
    std::string name = fmt::format("n{}", random_.below(1'000'000));
    // Long names fill directories fast, so that they grow beyond the inode and split.
    if (random_.chance(1, 3)) name.resize(random_.between(name.size(), 250), 'x');
    if (!tree_[directory].entries.contains(name)) return name;
  }
}

bool Client::is_below(ModelNodeId node, ModelNodeId ancestor) const {
  if (node == ancestor) return true;
  return std::ranges::any_of(tree_.at(ancestor).entries, [&](const auto& entry) {
    return tree_.at(entry.second).type == NodeType::directory && is_below(node, entry.second);
  });
}

Bytes Client::random_bytes(std::size_t count) {
  Bytes bytes(count);
  std::uint64_t word = random_.next() | 1;
  for (std::size_t i = 0; i < count; ++i)
    bytes[i] = static_cast<std::byte>((word + i * (word >> 17)) >> (i % 7));
  // Every block of it begins like metadata: in the log, journaled data must be escaped.
  if (random_.chance(1, 6)) {
    for (std::size_t i = 0; i + sizeof(ondisk::be32) <= count; i += 512)
      ondisk::view<ondisk::be32>(std::span(bytes), i) = ondisk::kMagic;
  }
  return bytes;
}

ModelNodeId Client::add(ModelNodeId directory, const std::string& name, Node node) {
  const ModelNodeId id = next_node_++;
  tree_.emplace(id, std::move(node));
  tree_[directory].entries[name] = id;
  return id;
}

Task<Result<>> Client::make_file() {
  if (tree_.size() > kMostFiles) co_return co_await remove_name();
  const ModelNodeId directory = any_directory();
  const std::string name = fresh_name(directory);
  begin({directory, next_node_});
  NewNode wanted;
  wanted.mode = S_IFREG | 0644;
  CO_TRY(Entry entry, co_await operations_.create(tree_[directory].inode, name, wanted, kCaller));
  Node node;
  node.mode = 0644;
  node.inode = entry.attributes.inode;
  add(directory, name, std::move(node));
  co_return Result<>{};
}

Task<Result<>> Client::make_directory() {
  const ModelNodeId directory = any_directory();
  const std::string name = fresh_name(directory);
  begin({directory, next_node_});
  NewNode wanted;
  wanted.mode = S_IFDIR | 0755;
  CO_TRY(Entry entry, co_await operations_.create(tree_[directory].inode, name, wanted, kCaller));
  Node node;
  node.type = NodeType::directory;
  node.mode = 0755;
  node.inode = entry.attributes.inode;
  add(directory, name, std::move(node));
  co_return Result<>{};
}

Task<Result<>> Client::make_symlink() {
  const ModelNodeId directory = any_directory();
  const std::string name = fresh_name(directory);
  begin({directory, next_node_});
  NewNode wanted;
  wanted.mode = S_IFLNK | 0777;
  wanted.symlink_target = std::string(random_.chance(1, 4) ? 4095 : random_.between(1, 300), 't');
  CO_TRY(Entry entry, co_await operations_.create(tree_[directory].inode, name, wanted, kCaller));
  Node node;
  node.type = NodeType::symlink;
  node.mode = 0777;
  node.inode = entry.attributes.inode;
  node.target = wanted.symlink_target;
  add(directory, name, std::move(node));
  co_return Result<>{};
}

Task<Result<>> Client::write_file() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  const std::uint64_t reach = random_.chance(1, 10) ? kLargeBytes : kUsualBytes;
  const std::uint64_t offset = random_.chance(1, 3) ? tree_[*file].contents->size() : random_.below(reach);
  const Bytes data = random_bytes(random_.between(1, random_.chance(1, 8) ? reach : 5000));
  begin({*file});
  CO_TRY(std::size_t written, co_await operations_.write(tree_[*file].inode, offset, data, {}));
  if (written != data.size() && !may_be_full_) {
    disagreement_ = fmt::format("{}: wrote {} of {} bytes with space left", name_, written, data.size());
  }
  Bytes contents = *tree_[*file].contents;
  if (contents.size() < offset + written) contents.resize(offset + written);
  std::copy_n(data.begin(), written, contents.begin() + static_cast<std::ptrdiff_t>(offset));
  tree_[*file].contents = std::make_shared<Bytes>(std::move(contents));
  co_return Result<>{};
}

Task<Result<>> Client::truncate_file() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  const std::uint64_t size = random_.chance(1, 4) ? 0 : random_.below(random_.chance(1, 6) ? kLargeBytes : kUsualBytes);
  begin({*file});
  AttributeChange change;
  change.size_bytes = size;
  CO_TRY(Attributes attributes, co_await operations_.set_attributes(tree_[*file].inode, change, kCaller));
  Bytes contents = *tree_[*file].contents;
  contents.resize(size);
  tree_[*file].contents = std::make_shared<Bytes>(std::move(contents));
  if (attributes.size_bytes != size) disagreement_ = fmt::format("{}: truncated to the wrong size", name_);
  co_return Result<>{};
}

Task<Result<>> Client::punch_file() {
  auto file = any(NodeType::file);
  if (!file || tree_[*file].contents->empty()) co_return co_await make_file();
  const std::uint64_t size = tree_[*file].contents->size();
  const std::uint64_t offset = random_.below(size);
  const std::uint64_t length = random_.between(1, 20'000);
  begin({*file});
  CO_TRY_VOID(
      co_await operations_.fallocate(tree_[*file].inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
  Bytes contents = *tree_[*file].contents;
  const std::uint64_t end = std::min(size, offset + length);
  std::fill(contents.begin() + static_cast<std::ptrdiff_t>(offset), contents.begin() + static_cast<std::ptrdiff_t>(end),
            std::byte{0});
  tree_[*file].contents = std::make_shared<Bytes>(std::move(contents));
  co_return Result<>{};
}

Task<Result<>> Client::add_link() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  const ModelNodeId directory = any_directory();
  const std::string name = fresh_name(directory);
  begin({directory, *file});
  CO_TRY(Entry entry, co_await operations_.link(tree_[*file].inode, tree_[directory].inode, name));
  operations_.forget(entry.attributes.inode, 1);
  ++tree_[*file].links;
  tree_[directory].entries[name] = *file;
  co_return Result<>{};
}

/// The model's side of a name's removal; the kernel's reference goes with the last name.
void Client::unlink_node(ModelNodeId id) {
  Node& node = tree_[id];
  if (--node.links != 0) return;
  operations_.forget(node.inode, 1);
  tree_.erase(id);
}

Task<Result<>> Client::remove_name() {
  auto victim = any_name();
  if (!victim) co_return co_await make_file();
  const Node& node = tree_[victim->node];
  begin({victim->directory, victim->node});
  const BlockNo directory = tree_[victim->directory].inode;
  if (node.type == NodeType::directory) {
    Result<> removed = co_await operations_.remove_directory(directory, victim->name);
    if (!node.entries.empty()) {
      if (removed) disagreement_ = fmt::format("{}: removed a directory that is not empty", name_);
      if (!removed && removed.error().code() != ENOTEMPTY) co_return removed;
      co_return Result<>{};
    }
    CO_TRY_VOID(removed);
  } else {
    CO_TRY_VOID(co_await operations_.unlink(directory, victim->name));
  }
  tree_[victim->directory].entries.erase(victim->name);
  unlink_node(victim->node);
  co_return Result<>{};
}

Task<Result<>> Client::rename_name() {
  auto from = any_name();
  if (!from) co_return co_await make_file();
  const ModelNodeId to_directory = any_directory();
  const bool directory_moves = tree_[from->node].type == NodeType::directory;
  if (directory_moves && is_below(to_directory, from->node)) co_return co_await read_back();
  std::string to_name = fresh_name(to_directory);
  std::optional<ModelNodeId> over;
  if (!directory_moves && random_.chance(1, 3)) {
    for (const auto& [name, id] : tree_[to_directory].entries) {
      if (tree_[id].type == NodeType::directory || id == from->node) continue;
      to_name = name;
      over = id;
      break;
    }
  }
  std::vector<ModelNodeId> touched{from->directory, to_directory, from->node};
  if (over) touched.push_back(*over);
  begin(std::move(touched));
  CO_TRY_VOID(co_await operations_.rename(tree_[from->directory].inode, from->name, tree_[to_directory].inode, to_name,
                                          RenameMode::replace));
  tree_[from->directory].entries.erase(from->name);
  tree_[to_directory].entries[to_name] = from->node;
  if (over) unlink_node(*over);
  co_return Result<>{};
}

Task<Result<>> Client::change_mode() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  AttributeChange change;
  change.mode = static_cast<std::uint32_t>(random_.below(0777));
  begin({*file});
  // chmod changes the ACL as well, which the model does not follow.
  if (auto acl = tree_[*file].xattrs.find("system.posix_acl_access"); acl != tree_[*file].xattrs.end()) {
    CO_TRY_VOID(co_await operations_.remove_xattr(tree_[*file].inode, acl->first));
    tree_[*file].xattrs.erase(acl);
  }
  CO_TRY(Attributes attributes, co_await operations_.set_attributes(tree_[*file].inode, change, kCaller));
  tree_[*file].mode = *change.mode;
  if ((attributes.mode & 07777) != *change.mode) disagreement_ = fmt::format("{}: chmod gave another mode", name_);
  co_return Result<>{};
}

Task<Result<>> Client::set_xattr() {
  auto file = any(random_.chance(1, 4) ? NodeType::directory : NodeType::file);
  if (!file) co_return co_await make_file();
  const std::string name = fmt::format("user.a{}", random_.below(6));
  const std::string value(random_.below(random_.chance(1, 5) ? 9000 : 120), static_cast<char>('a' + random_.below(26)));
  begin({*file});
  auto bytes = as_bytes(value);
  CO_TRY_VOID(co_await operations_.set_xattr(tree_[*file].inode, name, {bytes.begin(), bytes.end()},
                                             SetMode::create_or_replace, false));
  tree_[*file].xattrs[name] = value;
  co_return Result<>{};
}

Task<Result<>> Client::remove_xattr() {
  auto file = any(NodeType::file);
  if (!file || tree_[*file].xattrs.empty()) co_return co_await set_xattr();
  const std::string name = tree_[*file].xattrs.begin()->first;
  begin({*file});
  CO_TRY_VOID(co_await operations_.remove_xattr(tree_[*file].inode, name));
  tree_[*file].xattrs.erase(name);
  co_return Result<>{};
}

Task<Result<>> Client::read_back() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  const Bytes& expected = *tree_[*file].contents;
  AlignedBuffer buffer(expected.size() + 4096);
  CO_TRY(std::size_t got, co_await operations_.read(tree_[*file].inode, 0, buffer.span()));
  if (got != expected.size() || !std::ranges::equal(buffer.span().first(got), expected)) {
    disagreement_ = fmt::format("{}: inode {}: read {} bytes that are not the {} expected", name_,
                                tree_[*file].inode.value, got, expected.size());
  }
  co_return Result<>{};
}

Task<Result<>> Client::fsync_file() {
  auto file = any(NodeType::file);
  if (!file) co_return co_await make_file();
  CO_TRY_VOID(co_await operations_.fsync(tree_[*file].inode, false));
  syncs_.push_back({disk_.event_count(), records_.size(), tree_, *file});
  co_return Result<>{};
}

Task<Result<>> Client::sync_all() {
  CO_TRY_VOID(co_await operations_.sync());
  syncs_.push_back({disk_.event_count(), records_.size(), tree_, std::nullopt});
  co_return Result<>{};
}

Client::Durable Client::durable_at(std::uint64_t event) const {
  Durable durable;
  for (const SyncPoint& sync : syncs_) {
    if (sync.end_event > event) break;
    if (!sync.only) {
      durable.tree = sync.tree;
      durable.exists = true;
      durable.uncertain.clear();
    } else if (durable.exists && durable.tree.contains(*sync.only) && sync.tree.contains(*sync.only)) {
      // Names may have changed since the last sync of everything; contents and attributes are those of the fsync.
      durable.tree[*sync.only] = sync.tree.at(*sync.only);
      durable.uncertain.erase(*sync.only);
    }
    const std::size_t next = &sync == &syncs_.back() ? records_.size() : (&sync + 1)->records;
    for (std::size_t i = sync.records; i < next; ++i) {
      if (records_[i].begin_event > event) break;
      durable.uncertain.insert(records_[i].touched.begin(), records_[i].touched.end());
    }
  }
  return durable;
}

namespace {

Task<std::optional<std::string>> compare_file(Operations& operations, const Node& node, std::string path) {
  const Bytes& expected = *node.contents;
  AlignedBuffer buffer(expected.size() + 4096);
  auto got = co_await operations.read(node.inode, 0, buffer.span());
  if (!got) co_return fmt::format("{}: cannot be read: {}", path, got.error().describe());
  if (*got != expected.size()) co_return fmt::format("{}: {} bytes, expected {}", path, *got, expected.size());
  auto place = std::ranges::mismatch(buffer.span().first(*got), expected);
  if (place.in2 != expected.end()) {
    co_return fmt::format("{}: contents differ from byte {} of {} on", path, place.in2 - expected.begin(), *got);
  }
  co_return std::nullopt;
}

Task<std::optional<std::string>> compare_xattrs(Operations& operations, const Node& node, std::string path) {
  auto names = co_await operations.list_xattr(node.inode);
  if (!names) co_return fmt::format("{}: xattrs cannot be listed: {}", path, names.error().describe());
  if (names->size() != node.xattrs.size()) {
    co_return fmt::format("{}: {} xattrs, expected {}", path, names->size(), node.xattrs.size());
  }
  for (const auto& [name, value] : node.xattrs) {
    auto got = co_await operations.get_xattr(node.inode, name);
    if (!got || !std::ranges::equal(*got, as_bytes(value))) co_return fmt::format("{}: xattr {} differs", path, name);
  }
  co_return std::nullopt;
}

Task<std::optional<std::string>> compare_node(Operations& operations, const Client::Durable& durable, ModelNodeId id,
                                              std::string path);

Task<std::optional<std::string>> compare_entries(Operations& operations, const Client::Durable& durable, ModelNodeId id,
                                                 std::string path) {
  const Node& node = durable.tree.at(id);
  std::set<std::string> listed;
  auto collect = [&listed](std::string_view name, const DirectoryEntry&, DirectoryCookie) {
    if (name != "." && name != "..") listed.emplace(name);
    return true;
  };
  auto done = co_await operations.list(node.inode, 0, collect);
  if (!done) co_return fmt::format("{}: cannot be listed: {}", path, done.error().describe());
  for (const auto& [name, child] : node.entries) {
    if (!listed.erase(name)) co_return fmt::format("{}/{}: missing", path, name);
    auto entry = co_await operations.lookup(node.inode, name);
    if (!entry) co_return fmt::format("{}/{}: {}", path, name, entry.error().describe());
    if (!durable.uncertain.contains(child) && entry->attributes.inode != durable.tree.at(child).inode) {
      co_return fmt::format("{}/{}: another inode", path, name);
    }
    auto different = co_await compare_node(operations, durable, child, path + "/" + name);
    if (different) co_return different;
  }
  if (!listed.empty()) co_return fmt::format("{}/{}: should not be there", path, *listed.begin());
  co_return std::nullopt;
}

Task<std::optional<std::string>> compare_node(Operations& operations, const Client::Durable& durable, ModelNodeId id,
                                              std::string path) {
  if (durable.uncertain.contains(id)) co_return std::nullopt;
  const Node& node = durable.tree.at(id);
  auto attributes = co_await operations.get_attributes(node.inode);
  if (!attributes) co_return fmt::format("{}: {}", path, attributes.error().describe());
  if ((attributes->mode & 07777) != node.mode) {
    co_return fmt::format("{}: mode {:o}, expected {:o}", path, attributes->mode, node.mode);
  }
  if (attributes->uid != node.uid || attributes->gid != node.gid) {
    co_return fmt::format("{}: owner {}:{}, expected {}:{}", path, attributes->uid, attributes->gid, node.uid,
                          node.gid);
  }
  if (attributes->nlink != node.links && node.type == NodeType::file) {
    co_return fmt::format("{}: {} links, expected {}", path, attributes->nlink, node.links);
  }
  if (node.type == NodeType::file) {
    auto flags = co_await operations.get_flags(node.inode);
    if (!flags || *flags != node.flags) co_return fmt::format("{}: other flags than {:x}", path, node.flags);
  }
  if (auto different = co_await compare_xattrs(operations, node, path)) co_return different;
  switch (node.type) {
    case NodeType::file:
      co_return co_await compare_file(operations, node, path);
    case NodeType::directory:
      co_return co_await compare_entries(operations, durable, id, path);
    case NodeType::symlink: {
      auto target = co_await operations.read_link(node.inode);
      if (!target || *target != node.target) co_return fmt::format("{}: another target", path);
      co_return std::nullopt;
    }
  }
  co_return std::nullopt;
}

}  // namespace

Task<std::optional<std::string>> compare(Operations& operations, BlockNo root, std::string name,
                                         const Client::Durable& durable) {
  if (!durable.exists) co_return std::nullopt;
  auto entry = co_await operations.lookup(root, name);
  if (!entry) co_return fmt::format("{}: {}", name, entry.error().describe());
  co_return co_await compare_node(operations, durable, 0, name);
}

}  // namespace corral::sim
