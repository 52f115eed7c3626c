/// What the kernel may answer by itself, and how it is made to forget that where other nodes share the volume.
///
/// Where nobody else changes the volume everything stays valid for good. On a cluster mount names, attributes and pages
/// stay valid until the glock that they were read under comes down (GlockTable::on_invalidate):
///
/// - Attributes: INVAL_INODE without a range, which waits for nothing. A reply that makes the kernel know the inode may
///   be on its way still; then the notification is repeated until the kernel knows it or has forgotten it.
/// - Names: the epoch of all names of the mount (Linux 6.16), which waits for nothing. INVAL_ENTRY would wait for
///   requests in the directory, and they perhaps for the glock that is to be given up. Older kernels may keep no names.
/// - Pages: INVAL_INODE with a range, on a helper thread, because it waits for READs, and sends WRITEs of its own, and
///   they may wait for the very glock. READs that wait already are left out: their pages are locked and empty, and what
///   they will be filled with is read under the next grant. If the notification does not return, what waits for the
///   glock is answered under it, and then the pages are dropped once more. Pages that a WRITE under a lesser mode than
///   exclusive may have locked are no concern: there are no valid ones then (Operations::open). Nor does anybody wait
///   for those that a WRITE keeps locked which waits for the end of a freeze: they are dropped when it is answered.
///
/// Where the node is not certain of its locks any more, or has lost them, the glocks do not come down one by one: then
/// all that the kernel may remember is dropped at once (drop_all()).
///
/// The kernel does not take in the attributes of a reply that an invalidation overtakes, and then goes on with the size
/// that it knew. So of an open file that other nodes have just wanted it is told no attributes to remember, which need
/// no invalidation later, and who opens such a file for reading reads past the pages (Front::cache_flags).
///
/// A reply may be remembered by the kernel if it is sent before the glock comes down, that is, if nothing was awaited
/// since the operation returned, or a Stamp taken then is still fresh.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "base/sync.h"
#include "base/task.h"
#include "disk/event_loop.h"
#include "disk/helper_threads.h"
#include "fs/filesystem.h"
#include "fuse/channel.h"
#include "fuse/encode.h"

namespace corral {

class KernelCaches {
 public:
  /// Loop and channel outlive it; the filesystem until stop() or detach().
  KernelCaches(EventLoop& loop, Channel& channel, Filesystem& filesystem);
  KernelCaches(const KernelCaches&) = delete;
  KernelCaches& operator=(const KernelCaches&) = delete;

  /// The kernel speaks this minor version of the protocol; before the first answer that may be remembered.
  void agree(std::uint32_t minor);
  /// The kernel has let go of the mount. Glocks may still be coming down.
  void stop();
  /// The filesystem may go, and another life of it comes. Returns when nothing here uses it.
  Task<void> detach();
  void attach(Filesystem& filesystem);

  /// Has the kernel drop all that it may answer by itself, except pages that READs wait for; what is dirty of the pages
  /// it writes first. Names and attributes are dropped first, which waits for nothing. What is answered meanwhile may
  /// be remembered.
  Task<void> drop_all();

  /// Other nodes share the volume.
  bool shared() const { return shared_; }

  /// A moment at which something was read.
  class Stamp {
   private:
    friend class KernelCaches;
    explicit Stamp(std::uint64_t invalidations) : invalidations_(invalidations) {}
    std::uint64_t invalidations_;
  };
  Stamp now() const;
  bool fresh(Stamp stamp) const;

  // Before each answer: how long it may be remembered. It is counted as remembered.
  std::uint64_t attributes_seconds(BlockNo inode);
  std::uint64_t names_seconds(BlockNo directory);
  /// Pages of the file may be valid now.
  void told_data(BlockNo inode);
  bool may_know_data(BlockNo inode) const;

  /// A READ that fills pages, from its arrival to its answer.
  class Reading {
   public:
    Reading(KernelCaches& caches, BlockNo inode, std::uint64_t offset, std::uint64_t length);
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;
    ~Reading();

   private:
    struct Range {
      std::uint64_t begin;
      std::uint64_t end;
    };
    friend class KernelCaches;
    KernelCaches& caches_;
    std::multimap<BlockNo, Range>::iterator place_;
  };

  /// A WRITE that keeps pages locked, from its arrival to its answer.
  class Writing {
   public:
    Writing(KernelCaches& caches, BlockNo inode) : caches_(caches), place_(caches.writings_.insert(inode)) {}
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;
    ~Writing() { caches_.writings_.erase(place_); }

   private:
    KernelCaches& caches_;
    std::multiset<BlockNo>::iterator place_;
  };

  /// Pages of the file are dropped. For after a change that did not go through them.
  Task<void> drop_data(BlockNo inode);
  /// Pages of the file are being dropped: until they are the kernel must not be told of a size beyond them.
  bool is_dropping(BlockNo inode) const { return dropping_.contains(inode); }
  Task<void> data_dropped(BlockNo inode);
  /// Other nodes have just wanted the file (kContention).
  bool contended(BlockNo inode) const;
  /// Has the kernel let go of the inode if nobody uses it.
  void prune(BlockNo inode);

 private:
  Task<void> forget(Glock& glock, GlockMode to);
  Task<void> drop_attributes(InodeRef inode);
  Task<void> drop_pages(HelperThreads& threads, BlockNo inode);
  Task<void> forget_attributes(InodeRef inode);
  Task<void> forget_data(InodeRef inode);
  Task<void> forget_data_or_leave_it(InodeRef inode);
  Task<void> drop_pages_and_tell(BlockNo inode, std::shared_ptr<Event> dropped);
  void watch_glocks();
  Task<void> serve_if_stuck(Glock& glock, Event& done);
  std::vector<Reading::Range> ranges_to_forget(BlockNo inode) const;
  Task<void> prune_later(std::uint64_t node);
  std::uint64_t node_of(BlockNo inode) const { return numbers_.to_node(inode); }

  EventLoop& loop_;
  Channel& channel_;
  Filesystem* filesystem_;  ///< null while there is none
  NodeNumbers numbers_;
  const bool shared_;
  bool names_may_stay_ = true;  ///< the kernel can be told to forget them
  bool stopped_ = false;
  std::multimap<BlockNo, Reading::Range> readings_;
  std::multiset<BlockNo> writings_;
  std::multiset<BlockNo> dropping_;  ///< files whose pages are being dropped: until then they may be valid
  Signal data_dropped_;
  HelperThreads threads_;
  /// For drop_all(), whose notifications wait for WRITEs that may have to wait for a glock to come down.
  HelperThreads dropping_threads_;
  Scope work_;
};

}  // namespace corral
