#include <algorithm>

#include <fcntl.h>
#include <sys/stat.h>

#include "test/sim/cluster/simulation.h"
#include "test/sim/cluster/user.h"

namespace corral::sim {

Task<void> User::work_on_names(SharedDirectory& directory, Deed deed) {
  const auto name = static_cast<std::uint32_t>(random_.below(objects_.names));
  const auto other = static_cast<std::uint32_t>(random_.below(objects_.names));
  switch (deed) {
    case Deed::create:
      co_return co_await create(directory, name);
    case Deed::remove:
      co_return co_await remove(directory, name);
    case Deed::lookup:
      co_return co_await lookup(directory, name);
    case Deed::list:
      co_return co_await list(directory);
    case Deed::move:
    case Deed::exchange:
      co_return co_await move(directory, name, other, deed == Deed::exchange);
    case Deed::move_across:
      co_return co_await move_across(directory, objects_.directories[random_.below(objects_.directories.size())], name,
                                     other);
    case Deed::link:
      co_return co_await link(directory, name);
    case Deed::use_found:
      co_return co_await use_found(directory, name);
    case Deed::use_orphan:
      co_return co_await use_orphan(directory, name);
    default:
      co_return co_await sync_directory(directory);
  }
}

SharedFile& User::made_file(InodeTag tag, BlockNo inode, const std::string& name) {
  auto [at, fresh] = objects_.made.try_emplace(tag);
  if (fresh) at->second = {.name = name, .inode = inode, .slot_bytes = 1000, .slots_most = 6, .history = {}};
  return at->second;
}

Task<void> User::create(SharedDirectory& directory, std::uint32_t name) {
  const Entry entry = begin(directory.history, {.kind = Kind::insert, .first = name});
  entry->tag = kUnknown + entry->begin;
  NewNode node;
  node.mode = S_IFREG | 0644;
  const auto made = co_await operations().create(directory.inode, name_text(name), node, Caller{});
  if (made) {
    const InodeTag tag = tag_of(made->attributes);
    entry->tag = tag;
    made_file(tag, made->attributes.inode, fmt::format("{:x}", tag));
  }
  end(entry, made ? 0 : made.error().code(), {EEXIST});
  if (made) operations().forget(made->attributes.inode, 1);
}

Task<void> User::remove(SharedDirectory& directory, std::uint32_t name) {
  const Entry entry = begin(directory.history, {.kind = Kind::remove, .first = name});
  const auto done = co_await operations().unlink(directory.inode, name_text(name));
  end(entry, done ? 0 : done.error().code(), {ENOENT});
}

Task<void> User::lookup(SharedDirectory& directory, std::uint32_t name) {
  const Entry entry = begin(directory.history, {.kind = Kind::lookup, .first = name});
  const auto found = co_await operations().lookup(directory.inode, name_text(name));
  if (found) entry->tag = tag_of(found->attributes);
  end(entry, found ? 0 : found.error().code(), {ENOENT});
  if (found) operations().forget(found->attributes.inode, 1);
}

Task<void> User::list(SharedDirectory& directory) {
  const Entry entry = begin(directory.history, {.kind = Kind::list});
  std::vector<InodeTag> seen(objects_.names, 0);
  std::string strange;
  auto collect = [&seen, &strange](std::string_view text, const DirectoryEntry& found, DirectoryCookie) {
    if (text == "." || text == "..") return true;
    for (std::uint32_t name = 0; name < seen.size(); ++name) {
      if (name_text(name) != text) continue;
      if (seen[name] != 0) strange = fmt::format("{} twice", text);
      seen[name] = found.address.value;
      return true;
    }
    strange = text;
    return true;
  };
  const auto done = co_await operations().list(directory.inode, {}, collect);
  entry->tags = std::move(seen);
  if (done && !strange.empty())
    simulation_.fail_run(fmt::format("node {}: directory {} lists {}", host_.name(), directory.name, strange));
  end(entry, done ? 0 : done.error().code());
}

Task<void> User::move(SharedDirectory& directory, std::uint32_t from, std::uint32_t to, bool exchange) {
  const Entry entry =
      begin(directory.history, {.kind = exchange ? Kind::exchange : Kind::move, .first = from, .second = to});
  const auto done = co_await operations().rename(directory.inode, name_text(from), directory.inode, name_text(to),
                                                 exchange ? RenameMode::exchange : RenameMode::replace);
  end(entry, done ? 0 : done.error().code(), {ENOENT});
}

/// For each of the two directories it is an operation of its own; that both happen at once is not judged.
Task<void> User::move_across(SharedDirectory& from_directory, SharedDirectory& to_directory, std::uint32_t from,
                             std::uint32_t to) {
  if (&from_directory == &to_directory) co_return co_await move(from_directory, from, to, false);
  const Entry taken = begin(from_directory.history, {.kind = Kind::remove, .first = from});
  const Entry put = begin(to_directory.history, {.kind = Kind::replace, .first = to});
  put->tag = kUnknown + put->begin;
  const auto done = co_await operations().rename(from_directory.inode, name_text(from), to_directory.inode,
                                                 name_text(to), RenameMode::replace);
  const int error = done ? 0 : done.error().code();
  // Two names of one inode: rename(2) does nothing, and does not say so.
  end(taken, error, {ENOENT});
  if (error == ENOENT) {
    put->void_of_effect = true;
  } else {
    end(put, error);
  }
}

Task<void> User::link(SharedDirectory& directory, std::uint32_t name) {
  SharedFile& file = objects_.files.front();
  const auto attributes = co_await operations().get_attributes(file.inode);
  if (!attributes) co_return;
  const Entry entry = begin(directory.history, {.kind = Kind::insert, .first = name, .tag = tag_of(*attributes)});
  const auto done = co_await operations().link(file.inode, directory.inode, name_text(name));
  end(entry, done ? 0 : done.error().code(), {EEXIST});
  if (done) operations().forget(file.inode, 1);
}

Task<void> User::use_found(SharedDirectory& directory, std::uint32_t name) {
  const Entry entry = begin(directory.history, {.kind = Kind::lookup, .first = name});
  const auto found = co_await operations().lookup(directory.inode, name_text(name));
  if (found) entry->tag = tag_of(found->attributes);
  end(entry, found ? 0 : found.error().code(), {ENOENT});
  if (!found) co_return;
  const auto known = objects_.made.find(tag_of(found->attributes));
  if (known != objects_.made.end()) {
    const bool only_look = !host_.working();
    const auto deed = only_look ? Deed::read : static_cast<Deed>(random_.below(6));
    co_await work_on_file(known->second, deed);
  }
  operations().forget(found->attributes.inode, 1);
}

/// The inode lives on while it is open, and nobody finds it any more.
Task<void> User::use_orphan(SharedDirectory& directory, std::uint32_t name) {
  const Entry entry = begin(directory.history, {.kind = Kind::lookup, .first = name});
  const auto found = co_await operations().lookup(directory.inode, name_text(name));
  if (found) entry->tag = tag_of(found->attributes);
  end(entry, found ? 0 : found.error().code(), {ENOENT});
  if (!found) co_return;
  const BlockNo inode = found->attributes.inode;
  const auto opened = co_await operations().open(inode, O_RDWR);
  if (opened) {
    co_await remove(directory, name);
    const auto known = objects_.made.find(tag_of(found->attributes));
    for (std::uint64_t i = random_.below(4); i > 0 && known != objects_.made.end(); --i)
      co_await work_on_file(known->second, static_cast<Deed>(random_.below(5)));
    operations().release(inode, O_RDWR);
  }
  operations().forget(inode, 1);
}

Task<void> User::sync_directory(SharedDirectory& directory) {
  const Entry entry = begin(directory.history, {.kind = Kind::sync});
  const auto done = co_await operations().fsync(directory.inode, false);
  end(entry, done ? 0 : done.error().code());
}

Task<void> User::sync_all() {
  std::vector<Entry> entries;
  objects_.for_each_history(
      [&](std::vector<Operation>& history) { entries.push_back(begin(history, {.kind = Kind::sync})); });
  const auto done = co_await operations().sync();
  for (const Entry& entry : entries)
    end(entry, done ? 0 : done.error().code());
}

Task<void> User::many_files() {
  std::vector<std::string> names;
  NewNode node;
  node.mode = S_IFREG | 0644;
  int error = 0;
  for (std::uint64_t i = random_.between(5, 60); i > 0 && error == 0; --i) {
    names.push_back(fresh_name("one"));
    const auto made = co_await operations().create(objects_.top, names.back(), node, Caller{});
    if (made) operations().forget(made->attributes.inode, 1);
    if (!made) error = made.error().code();
  }
  for (const std::string& name : names) {
    if (error != 0) break;
    const auto done = co_await operations().unlink(objects_.top, name);
    if (!done) error = done.error().code();
  }
  tell(fmt::format("{} files made and removed", names.size()), error);
}

Task<void> User::private_tree() {
  constexpr std::size_t kTreesMost = 3;
  const auto mine = std::ranges::count(host_.private_trees, life_, &Host::PrivateTree::life);
  if (static_cast<std::size_t>(mine) >= kTreesMost) co_return;
  host_.private_trees.push_back({std::make_unique<Client>(operations(), simulation_.disk, host_.mount().root(),
                                                          fresh_name("tree"), random_.next()),
                                 life_});
  // The vector grows while the client works.
  Client& client = *host_.private_trees.back().client;
  client.expect_failure();
  co_await client.run(static_cast<std::uint32_t>(random_.between(10, 120)));
  if (client.disagreement()) simulation_.fail_run(fmt::format("node {}: {}", host_.name(), *client.disagreement()));
  if (client.failed() && !excused())
    simulation_.fail_run(
        fmt::format("node {}: {} met an error: {}", host_.name(), client.name(), client.failure()->describe()));
  tell(client.name(), client.failed() ? EIO : 0);
}

}  // namespace corral::sim
