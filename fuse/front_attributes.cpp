/// Handlers of attributes: stat, chmod and the like, extended attributes, ioctl, statfs.
#include <cstring>

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include "fuse/front.h"

namespace corral {

namespace {
template <class T>
std::vector<std::byte> bytes_of(const T& value) {
  auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

template <class T>
Result<T> value_of(std::span<const std::byte> bytes) {
  T value;
  if (bytes.size() < sizeof(value)) return fail(EINVAL);
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}
}  // namespace

Task<void> Front::get_attributes(Request request) {
  const BlockNo inode = inode_of(request);
  Result<Attributes> attributes;
  do {
    co_await caches_.data_dropped(inode);
    attributes = co_await operations().get_attributes(inode);
  } while (caches_.is_dropping(inode));
  if (!attributes) co_return refuse(request, attributes.error());
  const Validity validity{.names_seconds = 0, .attributes_seconds = caches_.attributes_seconds(inode)};
  request.succeed_with(encode_attribute_answer(*attributes, block_size_, validity));
}

Task<void> Front::set_attributes(Request request) {
  auto in = request.fixed<fuse_setattr_in>();
  AttributeChange change = decode_change(in, loop_.clock().wall());
  // The kernel asks for nothing when it only wants setuid and setgid cleared (a write, a chown to the same owner).
  if (in.valid == 0) change.kill_set_ids = true;
  Result<Attributes> changed = co_await operations().set_attributes(inode_of(request), change, caller_of(request, 0));
  const KernelCaches::Stamp stamp = caches_.now();
  if (changed) {
    if (Result<> stable = co_await stable_names(inode_of(request)); !stable)
      changed = std::unexpected(std::move(stable).error());
  }
  if (!changed) co_return refuse(request, changed.error());
  Validity validity;
  if (caches_.fresh(stamp)) validity.attributes_seconds = caches_.attributes_seconds(inode_of(request));
  request.succeed_with(encode_attribute_answer(*changed, block_size_, validity));
}

void Front::answer_bytes(Request& request, std::uint32_t limit, std::span<const std::byte> bytes) {
  if (limit == 0) {
    request.succeed_with(fuse_getxattr_out{.size = static_cast<std::uint32_t>(bytes.size()), .padding = 0});
  } else if (bytes.size() > limit) {
    refuse(request, Error(ERANGE));
  } else {
    request.succeed_with_bytes(bytes);
  }
}

bool Front::asks_for_statistics(const Request& request) {
  return request.header().nodeid == FUSE_ROOT_ID && request.name(sizeof(fuse_getxattr_in)) == kStatisticsName;
}

void Front::answer_statistics(Request request) {
  // Looking at the counters does not count.
  --counters_.requests[FUSE_GETXATTR];
  const std::string text = statistics();
  const std::uint32_t size = request.fixed<fuse_getxattr_in>().size;
  if (size != 0 && size < text.size()) return request.fail(ERANGE);
  request.regardless();
  answer_bytes(request, size, std::as_bytes(std::span(text)));
}

Task<void> Front::get_xattr(Request request) {
  auto in = request.fixed<fuse_getxattr_in>();
  std::string name(request.name(sizeof(in)));
  if (asks_for_statistics(request)) co_return answer_statistics(std::move(request));
  Result<std::vector<std::byte>> value = co_await operations().get_xattr(inode_of(request), std::move(name));
  if (!value) co_return refuse(request, value.error());
  answer_bytes(request, in.size, *value);
}

Task<void> Front::list_xattr(Request request) {
  auto in = request.fixed<fuse_getxattr_in>();
  Result<std::vector<std::string>> names = co_await operations().list_xattr(inode_of(request));
  if (!names) co_return refuse(request, names.error());
  std::string all;
  for (const std::string& name : *names) {
    // Trusted attributes are the administrator's; reading them the kernel refuses by itself, naming them it does not.
    if (request.header().uid != 0 && name.starts_with("trusted.")) continue;
    all.append(name).push_back('\0');
  }
  answer_bytes(request, in.size, std::as_bytes(std::span(all)));
}

Task<void> Front::set_xattr(Request request) {
  auto in = request.fixed<fuse_setxattr_in>();
  std::string name(request.name(sizeof(in)));
  std::span<const std::byte> value = request.rest(sizeof(in) + name.size() + 1);
  if (value.size() != in.size) co_return refuse(request, Error(EIO));
  SetMode mode = in.flags == XATTR_CREATE    ? SetMode::create
                 : in.flags == XATTR_REPLACE ? SetMode::replace
                                             : SetMode::create_or_replace;
  bool kill_setgid = (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
  Result<> done = co_await operations().set_xattr(inode_of(request), std::move(name), {value.begin(), value.end()},
                                                  mode, kill_setgid);
  co_await answer_changed(std::move(request), std::move(done));
}

Task<void> Front::remove_xattr(Request request) {
  Result<> done = co_await operations().remove_xattr(inode_of(request), std::string(request.name(0)));
  co_await answer_changed(std::move(request), std::move(done));
}

Task<Result<std::vector<std::byte>>> Front::run_control(BlockNo inode, std::uint32_t command,
                                                        std::span<const std::byte> in, Caller caller) {
  switch (command) {
    case FS_IOC_GETFLAGS: {
      CO_TRY(std::uint32_t flags, co_await operations().get_flags(inode));
      co_return bytes_of(flags);
    }
    case FS_IOC_SETFLAGS: {
      CO_TRY(std::uint32_t flags, value_of<std::uint32_t>(in));
      CO_TRY_VOID(co_await operations().set_flags(inode, flags, caller));
      channel_.invalidate_attributes(numbers_.to_node(inode));
      co_return std::vector<std::byte>();
    }
    case FS_IOC_FSGETXATTR: {
      CO_TRY(std::uint32_t flags, co_await operations().get_flags(inode));
      fsxattr extended{};
      extended.fsx_xflags = encode_extended_flags(flags);
      co_return bytes_of(extended);
    }
    case FS_IOC_FSSETXATTR: {
      CO_TRY(fsxattr wanted, value_of<fsxattr>(in));
      CO_TRY(std::uint32_t flags, co_await operations().get_flags(inode));
      CO_TRY(flags, decode_extended_flags(wanted, flags));
      CO_TRY_VOID(co_await operations().set_flags(inode, flags, caller));
      channel_.invalidate_attributes(numbers_.to_node(inode));
      co_return std::vector<std::byte>();
    }
    case FS_IOC_GETFSLABEL: {
      std::array<char, FSLABEL_MAX> label{};
      std::string table = filesystem_->superblock().lock_table;
      std::copy_n(table.begin(), std::min(table.size(), label.size() - 1), label.begin());
      co_return bytes_of(label);
    }
    case FITRIM: {
      if (caller.uid != 0) co_return fail(EPERM);
      CO_TRY(fstrim_range range, value_of<fstrim_range>(in));
      CO_TRY(range.len, co_await operations().trim(range.start, range.len, range.minlen));
      co_return bytes_of(range);
    }
    default:
      co_return fail(ENOTTY);
  }
}

Task<void> Front::control(Request request) {
  auto in = request.fixed<fuse_ioctl_in>();
  std::span<const std::byte> argument = request.rest(sizeof(in));
  if (argument.size() < in.in_size) co_return refuse(request, Error(EIO));
  Result<std::vector<std::byte>> out =
      co_await run_control(inode_of(request), in.cmd, argument.first(in.in_size), caller_of(request, 0));
  if (!out) co_return refuse(request, out.error());
  // The kernel insists on the size that it named.
  out->resize(in.out_size);
  request.succeed_with_head(fuse_ioctl_out{}, *out);
}

Task<void> Front::get_volume_figures(Request request) {
  Result<Operations::Statistics> figures = co_await operations().statistics();
  if (!figures) co_return refuse(request, figures.error());
  fuse_statfs_out out{};
  out.st.blocks = figures->blocks;
  out.st.bfree = figures->free_blocks;
  out.st.bavail = figures->free_blocks;
  out.st.files = figures->inodes;
  out.st.ffree = figures->free_inodes;
  out.st.bsize = figures->block_size_bytes;
  out.st.frsize = figures->block_size_bytes;
  out.st.namelen = figures->name_max_bytes;
  request.succeed_with(out);
}

}  // namespace corral
