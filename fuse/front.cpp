#include "fuse/front.h"

#include <algorithm>
#include <cstring>

namespace corral {

namespace {
/// Requests taken per turn of the loop, so that others get their turn.
constexpr int kRequestsPerTurn = 16;
/// Requests that the kernel sends without a process that waits (read-ahead, asynchronous O_DIRECT): enough to keep a
/// device of depth 32 busy, each may hold a large buffer.
constexpr std::uint16_t kMaxBackground = 64;
constexpr std::uint16_t kCongestionThreshold = 48;
/// Linux 5.10: what comes before lacks parts of the protocol that this front does not emulate.
constexpr std::uint32_t kLeastMinor = 32;
/// struct fuse_init_in as kernels before 7.36 send it.
constexpr std::size_t kShortInitBytes = 16;
/// Distinct error messages that are remembered as logged; beyond, none is logged.
constexpr std::size_t kMostLogged = 256;

/// The open file that a request is about, if it names one. Where there is one it comes first in the arguments, but for
/// attributes, which may be asked of both.
std::optional<std::uint64_t> handle_of(const Request& request) {
  switch (request.header().opcode) {
    case FUSE_GETATTR: {
      const auto& in = request.fixed<fuse_getattr_in>();
      return (in.getattr_flags & FUSE_GETATTR_FH) != 0 ? std::optional(in.fh) : std::nullopt;
    }
    case FUSE_SETATTR: {
      const auto& in = request.fixed<fuse_setattr_in>();
      return (in.valid & FATTR_FH) != 0 ? std::optional(in.fh) : std::nullopt;
    }
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_READ:
    case FUSE_WRITE:
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_FALLOCATE:
    case FUSE_LSEEK:
    case FUSE_IOCTL:
    case FUSE_COPY_FILE_RANGE:
    case FUSE_GETLK:
    case FUSE_SETLK:
    case FUSE_SETLKW:
    case FUSE_FLUSH:
      return request.fixed<std::uint64_t>();
    default:
      return std::nullopt;
  }
}
}  // namespace

/// Not FUSE_ATOMIC_O_TRUNC: with it the kernel hands an opening with O_RDONLY|O_TRUNC over before it sees that the file
/// is a running program, and then refuses (ETXTBSY) what has already been done.
std::uint64_t Front::wanted_flags() const {
  std::uint64_t flags = FUSE_ASYNC_READ | FUSE_EXPORT_SUPPORT | FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_HAS_IOCTL_DIR |
                        FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_ABORT_ERROR |
                        FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_EXPLICIT_INVAL_DATA | FUSE_SETXATTR_EXT |
                        FUSE_INIT_EXT | protocol::kDirectIoAllowMmap;
  if (settings_.acl) flags |= FUSE_POSIX_ACL;
  if (locks_.served()) flags |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
  // With the writeback cache the kernel owns sizes and times and never sees another node's. What a listing with
  // attributes told, the kernel takes in without regard to a change of names in between.
  if (caches_.shared()) return flags;
  flags |= FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO;
  if (settings_.writeback_cache) flags |= FUSE_WRITEBACK_CACHE;
  return flags;
}

std::array<Front::Handler, protocol::kOpcodes> Front::make_handlers() {
  std::array<Handler, protocol::kOpcodes> handlers{};
  auto set = [&handlers](fuse_opcode opcode, auto run, std::size_t fixed_bytes, unsigned names) {
    handlers[opcode] = {run, fixed_bytes, names};
  };
  set(FUSE_INIT, &Front::initialize, kShortInitBytes, 0);
  set(FUSE_DESTROY, &Front::destroy, 0, 0);
  set(FUSE_INTERRUPT, &Front::interrupt, sizeof(fuse_interrupt_in), 0);
  set(FUSE_LOOKUP, &Front::lookup, 0, 1);
  set(FUSE_MKNOD, &Front::make_node, sizeof(fuse_mknod_in), 1);
  set(FUSE_MKDIR, &Front::make_directory, sizeof(fuse_mkdir_in), 1);
  set(FUSE_SYMLINK, &Front::make_symlink, 0, 2);
  set(FUSE_LINK, &Front::make_link, sizeof(fuse_link_in), 1);
  set(FUSE_CREATE, &Front::create, sizeof(fuse_create_in), 1);
  set(FUSE_TMPFILE, &Front::create_unnamed, sizeof(fuse_create_in), 1);
  set(FUSE_UNLINK, &Front::unlink, 0, 1);
  set(FUSE_RMDIR, &Front::remove_directory, 0, 1);
  set(FUSE_RENAME, &Front::rename, sizeof(fuse_rename_in), 2);
  set(FUSE_RENAME2, &Front::rename_with_flags, sizeof(fuse_rename2_in), 2);
  set(FUSE_READLINK, &Front::read_link, 0, 0);
  set(FUSE_READDIR, &Front::list, sizeof(fuse_read_in), 0);
  set(FUSE_READDIRPLUS, &Front::list_plus, sizeof(fuse_read_in), 0);
  set(FUSE_GETATTR, &Front::get_attributes, sizeof(fuse_getattr_in), 0);
  set(FUSE_SETATTR, &Front::set_attributes, sizeof(fuse_setattr_in), 0);
  set(FUSE_GETXATTR, &Front::get_xattr, sizeof(fuse_getxattr_in), 1);
  set(FUSE_LISTXATTR, &Front::list_xattr, sizeof(fuse_getxattr_in), 0);
  set(FUSE_SETXATTR, &Front::set_xattr, sizeof(fuse_setxattr_in), 1);
  set(FUSE_REMOVEXATTR, &Front::remove_xattr, 0, 1);
  set(FUSE_IOCTL, &Front::control, sizeof(fuse_ioctl_in), 0);
  set(FUSE_STATFS, &Front::get_volume_figures, 0, 0);
  set(FUSE_OPEN, &Front::open, sizeof(fuse_open_in), 0);
  set(FUSE_RELEASE, &Front::release, sizeof(fuse_release_in), 0);
  set(FUSE_OPENDIR, &Front::open_directory, sizeof(fuse_open_in), 0);
  set(FUSE_RELEASEDIR, &Front::release_directory, sizeof(fuse_release_in), 0);
  set(FUSE_READ, &Front::read, sizeof(fuse_read_in), 0);
  set(FUSE_WRITE, &Front::write, sizeof(fuse_write_in), 0);
  set(FUSE_FSYNC, &Front::fsync, sizeof(fuse_fsync_in), 0);
  set(FUSE_FSYNCDIR, &Front::fsync, sizeof(fuse_fsync_in), 0);
  set(FUSE_SYNCFS, &Front::sync_all, 0, 0);
  set(FUSE_FALLOCATE, &Front::allocate, sizeof(fuse_fallocate_in), 0);
  set(FUSE_LSEEK, &Front::seek, sizeof(fuse_lseek_in), 0);
  set(FUSE_COPY_FILE_RANGE, &Front::copy_range, sizeof(fuse_copy_file_range_in), 0);
  set(FUSE_GETLK, &Front::test_lock, sizeof(fuse_lk_in), 0);
  set(FUSE_SETLK, &Front::set_lock, sizeof(fuse_lk_in), 0);
  set(FUSE_SETLKW, &Front::wait_for_lock, sizeof(fuse_lk_in), 0);
  set(FUSE_FLUSH, &Front::flush, sizeof(fuse_flush_in), 0);
  // The others get ENOSYS, which tells the kernel never to ask again. It is the right answer to STATX (there is no
  // birth time, so the kernel answers from cached attributes), ACCESS, POLL and BMAP.
  return handlers;
}

Front::Front(EventLoop& loop, FileDescriptor device, Filesystem& filesystem, FrontSettings settings, Logger log)
    : loop_(loop),
      filesystem_(&filesystem),
      root_(filesystem.root()),
      read_only_(filesystem.volume().options.read_only),
      settings_(settings),
      log_(std::move(log)),
      numbers_(filesystem.root()),
      block_size_(filesystem.volume().geometry.block_size()),
      channel_(std::move(device), kMaxTransferBytes, log_),
      caches_(loop, channel_, filesystem),
      latencies_(loop.clock()),
      agreed_changed_(loop.executor()),
      ended_changed_(loop.executor()),
      requests_(loop.executor()) {
  if (!caches_.shared()) return;
  channel_.judge = [this] { return judge_answer(); };
  channel_.on_held = [this] {
    if (!std::exchange(settling_, true)) requests_.spawn(settle_held_answers());
  };
}

Front::~Front() = default;

Result<> Front::start() {
  TRY(watch_, loop_.watch_readable(channel_.descriptor(), [this] { return drain(); }));
  return {};
}

Task<Result<>> Front::ready() {
  while (!agreed_)
    co_await agreed_changed_.wait();
  co_return *agreed_;
}

Task<void> Front::ended() {
  while (!ended_)
    co_await ended_changed_.wait();
  co_await requests_.join();
  caches_.stop();
}

void Front::disconnect() {
  end();
}

void Front::finish() {
  CHECK_INVARIANT(ended_ && requests_.running() == 0);
  if (destroy_) {
    destroy_->regardless();
    destroy_->succeed();
  }
  destroy_.reset();
  channel_.close();
}

void Front::end() {
  if (ended_) return;
  ended_ = true;
  watch_.reset();
  locks_.end();
  if (!agreed_) {
    agreed_ = fail(ENOTCONN, "the kernel ended the mount before it was ready");
    agreed_changed_.notify_all();
  }
  ended_changed_.notify_all();
}

EventLoop::Drained Front::drain() {
  for (int i = 0; i < kRequestsPerTurn; ++i) {
    std::optional<Message> message;
    switch (channel_.receive(message)) {
      case Channel::Received::message:
        dispatch(*std::move(message));
        if (ended_) return EventLoop::Drained::all;
        break;
      case Channel::Received::nothing:
        return EventLoop::Drained::all;
      case Channel::Received::ended:
        end();
        return EventLoop::Drained::all;
    }
  }
  return EventLoop::Drained::more;
}

Channel::Verdict Front::judge_answer() const {
  if (!serving_) return Channel::Verdict::refuse;
  return filesystem_->glocks().lock_space().certain() ? Channel::Verdict::give : Channel::Verdict::hold;
}

Task<void> Front::settle_held_answers() {
  const bool certain = co_await filesystem_->glocks().lock_space().wait_until_certain();
  settling_ = false;
  channel_.settle_held(certain && serving_ ? 0 : EIO);
}

Task<void> Front::withdraw() {
  serving_ = false;
  channel_.settle_held(EIO);
  // What writes a page that is dropped must be answered meanwhile.
  co_await caches_.drop_all();
  co_await requests_.join();
  co_await caches_.detach();
  note_known_inodes();
  filesystem_ = nullptr;
}

void Front::note_known_inodes() {
  known_ = filesystem_->inodes().known(root_);
  for (const auto& [address, one] : known_)
    if (filesystem_->inodes().find(address)->opens != 0) ++voided_[address];
}

/// The kernel knows 32 bits of it, and no object has the same nodeid and generation as one before it.
std::uint64_t Front::generation_of(const Entry& entry) const {
  const auto voided = voided_.find(entry.attributes.inode);
  if (voided == voided_.end()) return entry.attributes.generation;
  return entry.attributes.generation + (std::uint64_t{voided->second} << 24);
}

void Front::attach(Filesystem& filesystem) {
  CHECK_INVARIANT(filesystem_ == nullptr && filesystem.root() == root_);
  filesystem_ = &filesystem;
  filesystem_->inodes().remember(std::exchange(known_, {}));
  caches_.attach(filesystem);
  ++life_;
  first_of_life_ = opened_ + 1;
  serving_ = true;
}

void Front::drop_kernel_caches() {
  if (serving_ && !std::exchange(dropping_caches_, true)) requests_.spawn(drop_caches_once());
}

Task<void> Front::drop_caches_once() {
  co_await caches_.drop_all();
  dropping_caches_ = false;
}

bool Front::well_formed(const Handler& handler, const Message& message) const {
  std::span<const std::byte> rest = message.arguments();
  if (rest.size() < handler.fixed_bytes) return false;
  rest = rest.subspan(handler.fixed_bytes);
  for (unsigned i = 0; i < handler.names; ++i) {
    auto* end = static_cast<const std::byte*>(std::memchr(rest.data(), 0, rest.size()));
    if (end == nullptr) return false;
    rest = rest.subspan(static_cast<std::size_t>(end - rest.data()) + 1);
  }
  return true;
}

void Front::dispatch(Message message) {
  static const std::array<Handler, protocol::kOpcodes> handlers = make_handlers();
  std::uint32_t opcode = message.header().opcode;
  if (opcode < counters_.requests.size()) ++counters_.requests[opcode];
  if (opcode == FUSE_FORGET) return forget(message);
  if (opcode == FUSE_BATCH_FORGET) return forget_many(message);
  Request request(channel_, std::move(message), latencies_);
  const Handler* handler = opcode < handlers.size() ? &handlers[opcode] : nullptr;
  if (handler == nullptr || handler->run == nullptr) return request.fail(ENOSYS);
  if (!agreed_ && opcode != FUSE_INIT) return request.fail(EIO);
  if (!well_formed(*handler, request.message())) {
    log_.error("malformed {} request of {} bytes from the kernel", protocol::opcode_name(opcode), request.header().len);
    return request.fail(EIO);
  }
  const std::optional<std::uint64_t> handle = handle_of(request);
  const bool lost = handle && !is_of_this_life(*handle);
  const bool goes_on = opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_INTERRUPT;
  if (lost || (!serving_ && !goes_on)) return refuse_to_serve(std::move(request));
  requests_.spawn((this->*handler->run)(std::move(request)));
}

/// There is no filesystem, or the file was opened in an earlier life, whose promises are void.
void Front::refuse_to_serve(Request request) {
  const std::uint32_t opcode = request.header().opcode;
  if (opcode == FUSE_RELEASE || opcode == FUSE_RELEASEDIR) {
    request.regardless();
    return request.succeed();
  }
  if (opcode == FUSE_GETXATTR && asks_for_statistics(request)) return answer_statistics(std::move(request));
  ++counters_.errors;
  request.fail(EIO);
}

void Front::forget(const Message& message) {
  if (message.arguments().size() < sizeof(fuse_forget_in)) return;
  auto& in = *reinterpret_cast<const fuse_forget_in*>(message.arguments().data());
  forget_node(message.header().nodeid, in.nlookup);
}

void Front::forget_many(const Message& message) {
  std::span<const std::byte> bytes = message.arguments();
  if (bytes.size() < sizeof(fuse_batch_forget_in)) return;
  std::size_t count = reinterpret_cast<const fuse_batch_forget_in*>(bytes.data())->count;
  bytes = bytes.subspan(sizeof(fuse_batch_forget_in));
  count = std::min(count, bytes.size() / sizeof(fuse_forget_one));
  for (const auto& one : std::span(reinterpret_cast<const fuse_forget_one*>(bytes.data()), count))
    forget_node(one.nodeid, one.nlookup);
}

void Front::forget_node(std::uint64_t node, std::uint64_t count) {
  // The root belongs to the mount, not to lookups.
  if (node == FUSE_ROOT_ID) return;
  const BlockNo inode(node);
  if (filesystem_ != nullptr) {
    operations().forget(inode, count);
    if (voided_.empty()) return;
    InodeRef known = filesystem_->inodes().find(inode);
    if (known == nullptr || known->lookups == 0) voided_.erase(inode);
  } else if (auto known = known_.find(inode); known != known_.end()) {
    known->second.lookups -= std::min(count, known->second.lookups);
    if (known->second.lookups != 0) return;
    known_.erase(known);
    voided_.erase(inode);
  }
}

Task<void> Front::initialize(Request request) {
  fuse_init_in in{};
  std::memcpy(&in, request.arguments().data(), std::min(sizeof(in), request.arguments().size()));
  if (in.major != protocol::kMajor || in.minor < kLeastMinor) {
    agreed_ = fail(EPROTONOSUPPORT, "the kernel's FUSE protocol is {}.{}; Corral needs {}.{} or later (Linux 5.10)",
                   in.major, in.minor, protocol::kMajor, kLeastMinor);
    request.fail(EPROTO);
  } else {
    std::uint64_t offered = in.flags | ((in.flags & FUSE_INIT_EXT) != 0 ? std::uint64_t{in.flags2} << 32 : 0);
    std::uint64_t agreed = wanted_flags() & offered;
    if ((agreed & FUSE_WRITEBACK_CACHE) == 0) settings_.writeback_cache = false;
    caches_.agree(in.minor);
    fuse_init_out out{};
    out.major = protocol::kMajor;
    out.minor = std::min(in.minor, protocol::kMinor);
    out.max_readahead = in.max_readahead;
    out.flags = static_cast<std::uint32_t>(agreed);
    out.flags2 = static_cast<std::uint32_t>(agreed >> 32);
    out.max_background = kMaxBackground;
    out.congestion_threshold = kCongestionThreshold;
    out.max_write = kMaxTransferBytes;
    out.max_pages = kMaxTransferBytes / 4096;
    out.time_gran = 1;
    agreed_ = Result<>{};
    request.succeed_with(out);
  }
  agreed_changed_.notify_all();
  co_return;
}

Task<void> Front::destroy(Request request) {
  destroy_.emplace(std::move(request));
  end();
  co_return;
}

Task<void> Front::interrupt(Request request) {
  // Without locks nothing is interrupted: tells the kernel not to send any more.
  if (!locks_.served()) co_return request.fail(ENOSYS);
  locks_.interrupt(request.fixed<fuse_interrupt_in>().unique);
  request.succeed();
}

Caller Front::caller_of(const Request& request, std::uint32_t umask) {
  const fuse_in_header& header = request.header();
  return {.uid = header.uid, .gid = header.gid, .pid = header.pid, .umask = umask};
}

fuse_entry_out Front::encode(const Entry& entry, BlockNo directory) {
  const Validity validity{.names_seconds = caches_.names_seconds(directory),
                          .attributes_seconds = caches_.attributes_seconds(entry.attributes.inode)};
  return encode(entry, validity);
}

fuse_entry_out Front::encode(const Entry& entry, const Validity& validity) const {
  fuse_entry_out out = encode_entry(entry, numbers_, block_size_, validity);
  out.generation = generation_of(entry);
  return out;
}

/// What the kernel is told of an inode that it may have known before, it takes in without regard to an invalidation in
/// between, before Linux 6.16 at least: such attributes are not to be remembered on a cluster mount.
fuse_entry_out Front::encode_made(const Entry& entry, BlockNo directory, bool inode_is_new, KernelCaches::Stamp stamp) {
  if (!caches_.fresh(stamp)) return encode(entry, Validity{});
  fuse_entry_out out = encode(entry, directory);
  if (!inode_is_new && caches_.shared()) out.attr_valid = 0;
  return out;
}

void Front::refuse(Request& request, const Error& error) {
  ++counters_.errors;
  if (error.kind() != ErrorKind::expected && logged_.size() < kMostLogged && logged_.insert(error.describe()).second)
    log_.error("{} of inode {}: {}", protocol::opcode_name(request.header().opcode), inode_of(request).value,
               error.describe());
  request.fail(encode_error(error));
}

std::string Front::statistics() const {
  std::string requests;
  for (std::uint32_t opcode = 0; opcode < protocol::kOpcodes; ++opcode) {
    if (counters_.requests[opcode] == 0) continue;
    const char* name = protocol::opcode_name(opcode);
    requests += fmt::format("{}\"{}\":{}", requests.empty() ? "" : ",", name ? name : fmt::format("{}", opcode),
                            counters_.requests[opcode]);
  }
  return fmt::format(
      R"({{"requests":{{{}}},"errors":{},"bytes_read":{},"bytes_written":{},"running":{},"read_only":{},"serving":{},)"
      R"("life":{}}})",
      requests, counters_.errors, counters_.bytes_read, counters_.bytes_written, requests_.running(), read_only_,
      serving_, life_);
}

}  // namespace corral
