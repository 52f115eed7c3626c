/// The FUSE front of a mounted filesystem: takes the kernel's requests, runs each as a coroutine over Operations, and
/// answers from the loop's thread.
///
/// What the kernel may answer without us: with lock_nolock nobody else changes the volume, so names, absent names,
/// attributes, pages, symlinks and directory listings stay valid for good; on a cluster mount what a glock protects
/// stays valid until it comes down (kernel_caches.h), and there are no cached listings, no READDIRPLUS and no writeback
/// cache. counters() shows what it did ask. Opening a file is always asked (immutable and append-only files must be
/// refused), opening a directory only on a cluster mount. All permissions are checked by the kernel
/// (default_permissions), ACLs included. Locks on files (fcntl, flock), and with them FLUSH, come here on a cluster
/// mount only (lock_requests.h).
///
/// Requests run to their end, as on any local disk filesystem: signals interrupt only those that wait for a lock on a
/// file.
///
/// atime: the kernel does not tell of reads that it answers from its page cache. So that reading what was just written
/// counts, opening a file whose access time is due drops its pages, if one READ brings them all back.
/// docs/man/mount.corral.8 says what that means for each atime option.
///
/// The filesystem may be replaced under the kernel's mount: when the node has been fenced or has lost its disk, and
/// comes back as another one. From withdraw() on everything is answered with EIO, what waits for an answer included;
/// from attach() on the next life serves. Inodes keep their numbers, with the kernel's references to them: those that
/// are no more are answered with ESTALE. What was opened in an earlier life gives EIO until it is closed.
///
/// Where other nodes share the volume, an answer is given only while the node is certain of its locks. It waits
/// otherwise, and becomes EIO if they prove to be lost. corral.statistics is answered in any case.
///
/// Life: start() after the mount(2) that names the same descriptor; ready() returns when the kernel may be used;
/// ended() when it has let go. Then the owner unmounts the volume, which may go, and calls finish(), which lets
/// umount(2) return.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "disk/event_loop.h"
#include "fs/filesystem.h"
#include "fuse/channel.h"
#include "fuse/encode.h"
#include "fuse/kernel_caches.h"
#include "fuse/lock_requests.h"
#include "fuse/protocol.h"

namespace corral {

struct FrontSettings {
  /// The kernel collects small writes. Saves requests, but then it owns sizes and times, costs a SETATTR for each
  /// changed file, and a full volume shows only when the data is written back.
  bool writeback_cache = false;
  /// strictatime: the first read after each opening must come to us to be counted, however large the file.
  bool drop_pages_at_open = false;
  bool directory_atime = true;  ///< false: nodiratime
  bool acl = true;
  /// Names are stable before their change is answered (mount options sync and dirsync).
  bool synchronous_names = false;
};

struct FrontCounters {
  std::array<std::uint64_t, protocol::kOpcodes> requests{};  ///< by opcode
  std::uint64_t errors = 0;                                  ///< answered with an error
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
};

class Front {
 public:
  /// Extended attribute of the root that holds statistics().
  static constexpr const char* kStatisticsName = "corral.statistics";
  /// Largest WRITE payload and READ answer.
  static constexpr std::uint32_t kMaxTransferBytes = 1 << 20;

  /// `device`: /dev/fuse as given to mount(2). Everything outlives the front, the filesystem until withdraw() returns.
  Front(EventLoop& loop, FileDescriptor device, Filesystem& filesystem, FrontSettings settings, Logger log);
  ~Front();

  /// Who grants locks on files; not called where they are the kernel's affair. Before start(), and again before each
  /// attach().
  void set_file_locks(FileLocks& locks) { locks_.set_locks(locks); }
  /// Begins to take requests.
  Result<> start();
  /// Returns when the kernel has agreed on the protocol, or with the reason why it cannot be.
  Task<Result<>> ready();
  /// Returns when the kernel has let go of the mount and all its requests have been answered.
  Task<void> ended();
  /// The filesystem has withdrawn and is a member of the cluster no more, or must be treated so. Returns when the
  /// kernel remembers nothing of it and no request uses it.
  Task<void> withdraw();
  /// The next life of the same volume.
  void attach(Filesystem& filesystem);
  /// The node is not certain of its locks any more: the kernel is made to ask for everything anew.
  void drop_kernel_caches();
  /// Ends the service although the mount still exists (files are open that nobody will close): takes no more requests.
  void disconnect();
  /// After ended(): lets go of the kernel; umount(2) returns now.
  void finish();

  const FrontCounters& counters() const { return counters_; }
  const std::array<LatencyHistogram, protocol::kOpcodes>& latencies() const { return latencies_.of; }
  /// Requests that have not been answered.
  std::size_t running() const { return requests_.running(); }
  /// Counters and settings as a JSON object; also the extended attribute `corral.statistics` of the root, answered
  /// without any lock.
  std::string statistics() const;

 private:
  struct Handler {
    Task<void> (Front::*run)(Request request) = nullptr;
    std::size_t fixed_bytes = 0;  ///< of the structure that the arguments begin with
    unsigned names = 0;           ///< zero-terminated strings behind it
  };
  static std::array<Handler, protocol::kOpcodes> make_handlers();

  EventLoop::Drained drain();
  void dispatch(Message message);
  void end();
  bool well_formed(const Handler& handler, const Message& message) const;
  /// Those that are answered at once, or not at all.
  void forget(const Message& message);
  void forget_many(const Message& message);
  void forget_node(std::uint64_t node, std::uint64_t count);
  void note_known_inodes();
  std::uint64_t generation_of(const Entry& entry) const;
  void refuse_to_serve(Request request);
  static bool asks_for_statistics(const Request& request);
  void answer_statistics(Request request);
  Channel::Verdict judge_answer() const;
  Task<void> settle_held_answers();
  Task<void> drop_caches_once();

  Task<void> initialize(Request request);
  Task<void> destroy(Request request);
  Task<void> interrupt(Request request);

  Task<Result<Entry>> look_up(BlockNo directory, std::string name);
  Task<void> lookup(Request request);
  Task<void> make_node(Request request);
  Task<void> make_directory(Request request);
  Task<void> make_symlink(Request request);
  Task<void> make_link(Request request);
  Task<void> create(Request request);
  Task<void> create_unnamed(Request request);
  Task<void> unlink(Request request);
  Task<void> remove_directory(Request request);
  Task<void> rename(Request request);
  Task<void> rename_with_flags(Request request);
  Task<void> read_link(Request request);
  Task<void> list(Request request);
  Task<void> list_plus(Request request);

  Task<void> get_attributes(Request request);
  Task<void> set_attributes(Request request);
  Task<void> get_xattr(Request request);
  Task<void> list_xattr(Request request);
  Task<void> set_xattr(Request request);
  Task<void> remove_xattr(Request request);
  Task<void> control(Request request);
  Task<void> get_volume_figures(Request request);

  Task<void> open(Request request);
  Task<void> release(Request request);
  Task<void> open_directory(Request request);
  Task<void> release_directory(Request request);
  Task<void> read(Request request);
  Task<void> write(Request request);
  Task<void> fsync(Request request);
  Task<void> sync_all(Request request);
  Task<void> allocate(Request request);
  Task<void> seek(Request request);
  Task<void> copy_range(Request request);

  Task<void> set_lock(Request request);
  Task<void> wait_for_lock(Request request);
  Task<void> test_lock(Request request);
  Task<void> flush(Request request);

  // Shared by handlers
  BlockNo inode_of(const Request& request) const { return numbers_.to_inode(request.header().nodeid); }
  static Caller caller_of(const Request& request, std::uint32_t umask);
  Operations& operations() { return filesystem_->operations(); }
  /// For an answer that is given at once; `directory` is where the name is.
  fuse_entry_out encode(const Entry& entry, BlockNo directory);
  fuse_entry_out encode(const Entry& entry, const Validity& validity) const;
  /// For the answer to who made a name, perhaps of an inode that there was, after something was awaited.
  fuse_entry_out encode_made(const Entry& entry, BlockNo directory, bool inode_is_new, KernelCaches::Stamp stamp);
  std::uint64_t wanted_flags() const;
  /// An answer of an errno value; errors of device and volume are also logged, each message once.
  void refuse(Request& request, const Error& error);
  void answer_bytes(Request& request, std::uint32_t limit, std::span<const std::byte> bytes);
  Task<void> answer_new_entry(Request request, Result<Entry> entry, bool inode_is_new);
  Task<void> answer_changed(Request request, Result<> changed);
  Task<void> answer_listing(Request request, const DirectoryListing& listing);
  Task<Result<>> stable_names(BlockNo directory);
  /// What the kernel is given as an open file's handle: a number of its own, and whether it was opened with
  /// FOPEN_DIRECT_IO.
  std::uint64_t make_handle(bool direct) { return ++opened_ << 1 | (direct ? 1 : 0); }
  static bool is_direct(std::uint64_t handle) { return (handle & 1) != 0; }
  bool is_of_this_life(std::uint64_t handle) const { return handle >> 1 >= first_of_life_; }
  bool may_keep_pages(const Operations::OpenedFile& opened, std::uint32_t flags) const;
  std::uint32_t cache_flags(BlockNo inode, const Operations::OpenedFile& opened, std::uint32_t flags) const;
  Task<Result<fuse_open_out>> open_file(BlockNo inode, std::uint32_t flags, std::uint32_t open_flags, Caller caller);
  Task<void> answer_created(Request request, Result<Entry> entry, fuse_create_in how, bool is_new);
  Task<void> settle_pages(const Request& request, const fuse_write_in& in);
  Task<void> rename_to(Request request, std::uint64_t new_node, std::uint32_t flags, std::size_t names_at);
  Task<Result<std::vector<std::byte>>> run_control(BlockNo inode, std::uint32_t command, std::span<const std::byte> in,
                                                   Caller caller);

  EventLoop& loop_;
  Filesystem* filesystem_;  ///< null between two lives
  bool serving_ = true;     ///< false from withdraw() to attach()
  std::uint64_t life_ = 0;
  KnownInodes known_;  ///< by the kernel, between two lives
  /// Inodes that were open when a life was lost, and how often that happened, for as long as the kernel refers to them:
  /// it is told of another generation, so that its object of then, with what is open and mapped, is of no use any more.
  std::map<BlockNo, std::uint32_t> voided_;
  const BlockNo root_;
  const bool read_only_;
  FrontSettings settings_;
  Logger log_;
  NodeNumbers numbers_;
  std::uint32_t block_size_;
  Channel channel_;
  KernelCaches caches_;
  LockRequests locks_;
  std::uint64_t opened_ = 0;         ///< files so far
  std::uint64_t first_of_life_ = 0;  ///< earlier ones were opened in a life that was lost
  FrontCounters counters_;
  RequestLatencies latencies_;
  std::set<std::string> logged_;

  std::optional<Result<>> agreed_;
  Signal agreed_changed_;
  bool settling_ = false;         ///< settle_held_answers() is at work
  bool dropping_caches_ = false;  ///< drop_caches_once() is at work
  bool ended_ = false;
  Signal ended_changed_;
  std::optional<Request> destroy_;
  std::unique_ptr<EventLoop::Watch> watch_;
  /// Last: its frames use all of the above when they are destroyed.
  Scope requests_;
};

}  // namespace corral
