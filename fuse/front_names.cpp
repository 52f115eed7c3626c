/// Handlers of names: looking up, making, linking, removing, renaming, listing.
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "fuse/front.h"

namespace corral {

/// "." and ".." come from file handles (NFS, open_by_handle_at); paths are walked by the kernel.
Task<Result<Entry>> Front::look_up(BlockNo directory, std::string name) {
  if (name == ".") return operations().lookup_handle(directory, std::nullopt);
  if (name == "..") return operations().lookup_parent(directory);
  return operations().lookup(directory, std::move(name));
}

Task<void> Front::lookup(Request request) {
  const std::string name(request.name(0));
  const BlockNo directory = inode_of(request);
  Result<Entry> entry = co_await look_up(directory, name);
  while (entry && caches_.is_dropping(entry->attributes.inode)) {
    co_await caches_.data_dropped(entry->attributes.inode);
    operations().forget(entry->attributes.inode, 1);
    entry = co_await look_up(directory, name);
  }
  if (entry) {
    request.succeed_with(encode(*entry, directory));
  } else if (entry.error().code() == ENOENT) {
    request.succeed_with(encode_absent({.names_seconds = caches_.names_seconds(directory), .attributes_seconds = 0}));
  } else {
    refuse(request, entry.error());
  }
}

/// For mount options sync and dirsync: the change that the request made is on the disk.
Task<Result<>> Front::stable_names(BlockNo directory) {
  if (!settings_.synchronous_names) co_return Result<>{};
  co_return co_await operations().fsync(directory, false);
}

Task<void> Front::answer_new_entry(Request request, Result<Entry> entry, bool inode_is_new) {
  if (!entry) co_return refuse(request, entry.error());
  const KernelCaches::Stamp stamp = caches_.now();
  if (Result<> stable = co_await stable_names(inode_of(request)); !stable) {
    operations().forget(entry->attributes.inode, 1);
    co_return refuse(request, stable.error());
  }
  request.succeed_with(encode_made(*entry, inode_of(request), inode_is_new, stamp));
}

Task<void> Front::answer_changed(Request request, Result<> changed) {
  if (changed) changed = co_await stable_names(inode_of(request));
  if (!changed) co_return refuse(request, changed.error());
  request.succeed();
}

Task<void> Front::make_node(Request request) {
  auto in = request.fixed<fuse_mknod_in>();
  DeviceNumber device = decode_device(in.rdev);
  NewNode node{
      .mode = in.mode, .device_major = device.major, .device_minor = device.minor, .symlink_target = std::string()};
  std::string name(request.name(sizeof(in)));
  Result<Entry> entry =
      co_await operations().create(inode_of(request), std::move(name), std::move(node), caller_of(request, in.umask));
  co_await answer_new_entry(std::move(request), std::move(entry), true);
}

Task<void> Front::make_directory(Request request) {
  auto in = request.fixed<fuse_mkdir_in>();
  NewNode node;
  node.mode = S_IFDIR | (in.mode & 07777);
  std::string name(request.name(sizeof(in)));
  Result<Entry> entry =
      co_await operations().create(inode_of(request), std::move(name), std::move(node), caller_of(request, in.umask));
  co_await answer_new_entry(std::move(request), std::move(entry), true);
}

Task<void> Front::make_symlink(Request request) {
  std::string name(request.name(0));
  NewNode node;
  node.mode = S_IFLNK | 0777;
  node.symlink_target = request.name(name.size() + 1);
  Result<Entry> entry =
      co_await operations().create(inode_of(request), std::move(name), std::move(node), caller_of(request, 0));
  co_await answer_new_entry(std::move(request), std::move(entry), true);
}

Task<void> Front::make_link(Request request) {
  auto in = request.fixed<fuse_link_in>();
  std::string name(request.name(sizeof(in)));
  Result<Entry> entry = co_await operations().link(numbers_.to_inode(in.oldnodeid), inode_of(request), std::move(name));
  co_await answer_new_entry(std::move(request), std::move(entry), false);
}

Task<void> Front::answer_created(Request request, Result<Entry> entry, fuse_create_in how, bool is_new) {
  if (!entry) co_return refuse(request, entry.error());
  const KernelCaches::Stamp stamp = caches_.now();
  BlockNo inode = entry->attributes.inode;
  Result<fuse_open_out> opened = co_await open_file(inode, how.flags, how.open_flags, caller_of(request, how.umask));
  if (opened) {
    if (Result<> stable = co_await stable_names(inode_of(request)); !stable) {
      operations().release(inode, static_cast<int>(how.flags));
      opened = std::unexpected(std::move(stable).error());
    }
  }
  if (!opened) {
    operations().forget(inode, 1);
    co_return refuse(request, opened.error());
  }
  request.succeed_with(encode_made(*entry, inode_of(request), is_new, stamp), *opened);
}

Task<void> Front::create(Request request) {
  auto in = request.fixed<fuse_create_in>();
  std::string name(request.name(sizeof(in)));
  NewNode node;
  node.mode = in.mode;
  Result<Entry> entry =
      co_await operations().create(inode_of(request), name, std::move(node), caller_of(request, in.umask));
  const bool is_new = entry.has_value();
  if (is_new) {
    in.flags &= ~static_cast<std::uint32_t>(O_TRUNC);
  } else if (entry.error().code() == EEXIST && (in.flags & O_EXCL) == 0) {
    // Somebody was faster: then it is an open of what exists.
    entry = co_await operations().lookup(inode_of(request), std::move(name));
    if (entry && !S_ISREG(entry->attributes.mode)) {
      operations().forget(entry->attributes.inode, 1);
      entry = fail(EEXIST);
    }
  }
  co_await answer_created(std::move(request), std::move(entry), in, is_new);
}

Task<void> Front::create_unnamed(Request request) {
  auto in = request.fixed<fuse_create_in>();
  Result<Entry> entry = co_await operations().create_unnamed(inode_of(request), in.mode, caller_of(request, in.umask));
  in.flags &= ~static_cast<std::uint32_t>(O_TRUNC);
  co_await answer_created(std::move(request), std::move(entry), in, true);
}

Task<void> Front::unlink(Request request) {
  Result<> done = co_await operations().unlink(inode_of(request), std::string(request.name(0)));
  co_await answer_changed(std::move(request), std::move(done));
}

Task<void> Front::remove_directory(Request request) {
  Result<> done = co_await operations().remove_directory(inode_of(request), std::string(request.name(0)));
  co_await answer_changed(std::move(request), std::move(done));
}

Task<void> Front::rename(Request request) {
  std::uint64_t new_node = request.fixed<fuse_rename_in>().newdir;
  co_await rename_to(std::move(request), new_node, 0, sizeof(fuse_rename_in));
}

Task<void> Front::rename_with_flags(Request request) {
  auto in = request.fixed<fuse_rename2_in>();
  co_await rename_to(std::move(request), in.newdir, in.flags, sizeof(in));
}

Task<void> Front::rename_to(Request request, std::uint64_t new_node, std::uint32_t flags, std::size_t names_at) {
  RenameMode mode = RenameMode::replace;
  if (flags == RENAME_NOREPLACE) {
    mode = RenameMode::no_replace;
  } else if (flags == RENAME_EXCHANGE) {
    mode = RenameMode::exchange;
  } else if (flags != 0) {
    co_return refuse(request, Error(EINVAL));
  }
  std::string old_name(request.name(names_at));
  std::string new_name(request.name(names_at + old_name.size() + 1));
  BlockNo new_directory = numbers_.to_inode(new_node);
  Result<> done =
      co_await operations().rename(inode_of(request), std::move(old_name), new_directory, std::move(new_name), mode);
  // One commit makes both directories stable: a rename is one transaction.
  co_await answer_changed(std::move(request), std::move(done));
}

Task<void> Front::read_link(Request request) {
  Result<std::string> target = co_await operations().read_link(inode_of(request));
  if (!target) co_return refuse(request, target.error());
  BlockNo inode = inode_of(request);
  request.succeed_with_bytes(std::as_bytes(std::span(*target)));
  co_await operations().accessed(inode);
}

Task<void> Front::answer_listing(Request request, const DirectoryListing& listing) {
  BlockNo directory = inode_of(request);
  request.succeed_with_bytes(listing.bytes());
  if (settings_.directory_atime) co_await operations().accessed(directory);
}

Task<void> Front::list(Request request) {
  auto in = request.fixed<fuse_read_in>();
  DirectoryListing listing(std::min(in.size, kMaxTransferBytes));
  auto add = [&listing](std::string_view name, const DirectoryEntry& entry, DirectoryCookie next) {
    return listing.add(name, entry.address, entry.type, next);
  };
  Result<> listed = co_await operations().list(inode_of(request), in.offset, add);
  if (!listed) co_return refuse(request, listed.error());
  co_await answer_listing(std::move(request), listing);
}

Task<void> Front::list_plus(Request request) {
  auto in = request.fixed<fuse_read_in>();
  DirectoryListing listing(std::min(in.size, kMaxTransferBytes));
  const BlockNo directory = inode_of(request);
  auto add = [this, directory, &listing](std::string_view name, const Entry& entry, DirectoryCookie next) {
    fuse_entry_out head = encode(entry, directory);
    bool known = entry.attributes.generation != 0;
    auto type = static_cast<std::uint8_t>(IFTODT(entry.attributes.mode));
    return listing.add_plus(name, entry.attributes.inode, type, known ? &head : nullptr, next);
  };
  Result<> listed = co_await operations().list_plus(inode_of(request), in.offset, add);
  if (!listed) co_return refuse(request, listed.error());
  co_await answer_listing(std::move(request), listing);
}

}  // namespace corral
