#include "fuse/kernel_caches.h"

#include <algorithm>

namespace corral {

namespace {
/// "For good", without coming near the kernel's limits.
constexpr std::uint64_t kForeverSeconds = 10ull * 365 * 24 * 3600;
/// Notifications that wait in the kernel at a time. Each waits for requests that are answered without any other.
constexpr std::size_t kMostThreads = 16;
constexpr std::size_t kMostDroppingThreads = 4;
/// A notification that takes longer is taken to wait for an answer. Only speed depends on it.
constexpr Duration kPatience = std::chrono::milliseconds(1);
/// One that takes so long, of a file with a WRITE while changes are held up, is taken to wait for that.
constexpr Duration kHeldUpPatience = std::chrono::milliseconds(100);
/// The kernel takes a reply in as soon as the process that waits for it runs.
constexpr Duration kRepeatAfter = std::chrono::milliseconds(1);
constexpr Duration kLongestTakingIn = std::chrono::seconds(5);
/// A file that others wanted so lately they will want again: what is remembered of it is of little use.
constexpr Duration kContention = std::chrono::seconds(1);
/// Pages are of this size or a multiple of it.
constexpr std::uint64_t kPageBytes = 4096;

std::uint64_t rounded_up(std::uint64_t bytes) {
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}
}  // namespace

KernelCaches::KernelCaches(EventLoop& loop, Channel& channel, Filesystem& filesystem)
    : loop_(loop),
      channel_(channel),
      filesystem_(&filesystem),
      numbers_(filesystem.root()),
      shared_(filesystem.glocks().clustered()),
      data_dropped_(loop.executor()),
      threads_(loop, kMostThreads),
      dropping_threads_(loop, kMostDroppingThreads),
      work_(loop.executor()) {
  if (shared_) watch_glocks();
}

void KernelCaches::watch_glocks() {
  filesystem_->glocks().on_invalidate = [this](Glock& glock, GlockMode to) { return forget(glock, to); };
  filesystem_->glocks().on_free_wanted = [this](BlockNo inode) { prune(inode); };
}

void KernelCaches::agree(std::uint32_t minor) {
  if (shared_ && minor < protocol::kMinorOfPrune) names_may_stay_ = false;
}

void KernelCaches::stop() {
  if (stopped_ || !shared_) return;
  stopped_ = true;
  if (filesystem_ == nullptr) return;
  filesystem_->glocks().on_invalidate = nullptr;
  filesystem_->glocks().on_free_wanted = nullptr;
}

Task<void> KernelCaches::detach() {
  filesystem_->glocks().on_invalidate = nullptr;
  filesystem_->glocks().on_free_wanted = nullptr;
  co_await work_.join();
  filesystem_ = nullptr;
}

void KernelCaches::attach(Filesystem& filesystem) {
  CHECK_INVARIANT(filesystem_ == nullptr && filesystem.glocks().clustered() == shared_);
  filesystem_ = &filesystem;
  if (shared_ && !stopped_) watch_glocks();
}

Task<void> KernelCaches::drop_all() {
  if (!shared_ || stopped_ || channel_.closed()) co_return;
  if (names_may_stay_) channel_.invalidate_names();
  const std::vector<InodeRef> told = filesystem_->inodes().told_inodes();
  Scope drops(loop_.executor());
  for (const InodeRef& inode : told)
    if (inode->told.attributes) drops.spawn(drop_attributes(inode));
  for (const InodeRef& inode : told)
    if (inode->told.data) drops.spawn(drop_pages(dropping_threads_, inode->address()));
  co_await drops.join();
}

KernelCaches::Stamp KernelCaches::now() const {
  return Stamp(filesystem_->glocks().invalidations());
}

bool KernelCaches::fresh(Stamp stamp) const {
  return stamp.invalidations_ == filesystem_->glocks().invalidations();
}

std::uint64_t KernelCaches::attributes_seconds(BlockNo inode) {
  if (!shared_) return kForeverSeconds;
  InodeRef known = filesystem_->inodes().find(inode);
  if (known == nullptr || (known->opens != 0 && contended(inode))) return 0;
  known->told.attributes = true;
  return kForeverSeconds;
}

std::uint64_t KernelCaches::names_seconds(BlockNo directory) {
  if (!shared_) return kForeverSeconds;
  InodeRef known = names_may_stay_ ? filesystem_->inodes().find(directory) : nullptr;
  if (known == nullptr) return 0;
  known->told.names = true;
  return kForeverSeconds;
}

void KernelCaches::told_data(BlockNo inode) {
  if (!shared_) return;
  if (InodeRef known = filesystem_->inodes().find(inode)) known->told.data = true;
}

bool KernelCaches::may_know_data(BlockNo inode) const {
  InodeRef known = shared_ ? filesystem_->inodes().find(inode) : nullptr;
  return known != nullptr && (known->told.data || is_dropping(inode));
}

KernelCaches::Reading::Reading(KernelCaches& caches, BlockNo inode, std::uint64_t offset, std::uint64_t length)
    : caches_(caches),
      place_(caches.readings_.emplace(inode, Range{offset / kPageBytes * kPageBytes, rounded_up(offset + length)})) {}

KernelCaches::Reading::~Reading() {
  caches_.readings_.erase(place_);
}

/// All bytes but those of READs that wait.
std::vector<KernelCaches::Reading::Range> KernelCaches::ranges_to_forget(BlockNo inode) const {
  std::vector<Reading::Range> waiting;
  for (auto [place, end] = readings_.equal_range(inode); place != end; ++place)
    waiting.push_back(place->second);
  std::ranges::sort(waiting, {}, &Reading::Range::begin);
  std::vector<Reading::Range> ranges;
  std::uint64_t reached = 0;
  for (const Reading::Range& range : waiting) {
    if (range.begin > reached) ranges.push_back({reached, range.begin});
    reached = std::max(reached, range.end);
  }
  ranges.push_back({reached, reached});  // to the end
  return ranges;
}

Task<void> KernelCaches::forget_data(InodeRef inode) {
  inode->told.data = false;
  co_await drop_pages(threads_, inode->address());
}

Task<void> KernelCaches::forget_data_or_leave_it(InodeRef inode) {
  inode->told.data = false;
  auto dropped = std::make_shared<Event>(loop_.executor());
  work_.spawn(drop_pages_and_tell(inode->address(), dropped));
  while (!co_await dropped->wait_until(loop_.executor().now() + kHeldUpPatience)) {
    const bool held_up = !filesystem_->volume().try_change().has_value();
    if (held_up && writings_.contains(inode->address())) co_return;
  }
}

Task<void> KernelCaches::drop_pages_and_tell(BlockNo inode, std::shared_ptr<Event> dropped) {
  co_await drop_pages(threads_, inode);
  dropped->set();
}

Task<void> KernelCaches::drop_pages(HelperThreads& threads, BlockNo inode) {
  auto drop = [notifier = channel_.notifier(), node = node_of(inode), ranges = ranges_to_forget(inode)] {
    for (const Reading::Range& range : ranges)
      notifier.invalidate_data(node, range.begin, range.end - range.begin);
  };
  const auto place = dropping_.insert(inode);
  co_await threads.run(std::move(drop));
  dropping_.erase(place);
  data_dropped_.notify_all();
}

Task<void> KernelCaches::forget_attributes(InodeRef inode) {
  inode->told.attributes = false;
  co_await drop_attributes(std::move(inode));
}

Task<void> KernelCaches::drop_attributes(InodeRef inode) {
  const Time give_up = loop_.executor().now() + kLongestTakingIn;
  while (!stopped_ && filesystem_ != nullptr && !channel_.invalidate_attributes(node_of(inode->address())) &&
         inode->lookups != 0) {
    if (loop_.executor().now() >= give_up) {
      filesystem_->volume().log.error("inode {}: the kernel has been told of it but does not know it",
                                      inode->address().value);
      co_return;
    }
    co_await loop_.executor().sleep_for(kRepeatAfter);
  }
}

Task<void> KernelCaches::serve_if_stuck(Glock& glock, Event& done) {
  if (!co_await done.wait_until(loop_.executor().now() + kPatience)) glock.serve_while_invalidating();
}

Task<void> KernelCaches::forget(Glock& glock, GlockMode to) {
  InodeRef inode = filesystem_->inodes().find(BlockNo(glock.name().number));
  if (inode == nullptr || stopped_) co_return;
  inode->told.wanted = loop_.executor().now();
  Event done(loop_.executor());
  Scope watch(loop_.executor());
  watch.spawn(serve_if_stuck(glock, done));
  const bool may_still_read = to == GlockMode::shared;
  if (!may_still_read) {
    if (std::exchange(inode->told.names, false)) channel_.invalidate_names();
    if (inode->told.attributes) co_await forget_attributes(inode);
  }
  // Who has less than exclusive and writers has no valid pages; who comes down to shared and has none keeps his.
  const bool exclusive = glock.node_mode() == GlockMode::exclusive;
  const bool none_valid = !exclusive && inode->writers != 0;
  const bool all_valid = may_still_read && inode->writers == 0;
  // A dropping that is under way may wait for a WRITE, which can be carried out under the exclusive glock only.
  const bool may_be_valid = inode->told.data || (exclusive && is_dropping(inode->address()));
  if (may_be_valid && !none_valid && !all_valid && !channel_.closed()) co_await forget_data_or_leave_it(inode);
  done.set();
  co_await watch.join();
}

Task<void> KernelCaches::drop_data(BlockNo inode) {
  InodeRef known = filesystem_->inodes().find(inode);
  if (known != nullptr && !channel_.closed()) co_await forget_data(std::move(known));
}

Task<void> KernelCaches::data_dropped(BlockNo inode) {
  while (is_dropping(inode))
    co_await data_dropped_.wait();
}

bool KernelCaches::contended(BlockNo inode) const {
  InodeRef known = shared_ ? filesystem_->inodes().find(inode) : nullptr;
  return known != nullptr && known->told.wanted != Time{} && loop_.executor().now() - known->told.wanted < kContention;
}

void KernelCaches::prune(BlockNo inode) {
  InodeRef known = filesystem_->inodes().find(inode);
  if (known == nullptr || known->opens != 0 || known->lookups == 0 || channel_.closed()) return;
  work_.spawn(prune_later(node_of(inode)));
}

/// On a thread, for the kernel writes the node's dirty pages before it lets go.
Task<void> KernelCaches::prune_later(std::uint64_t node) {
  co_await threads_.run([notifier = channel_.notifier(), node] { notifier.prune(node); });
}

}  // namespace corral
