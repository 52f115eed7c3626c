// Requests for locks as the kernel makes them, over a model of who grants.
#include "fuse/lock_requests.h"

#include <cstring>
#include <list>

#include <fcntl.h>
#include <sys/socket.h>

#include "base/sync.h"
#include "test/support/catch.h"
#include "test/support/manual_clock.h"

namespace corral {
namespace {

constexpr BlockNo kFile(700);
constexpr BlockNo kOther(701);

/// Whole-file exclusive locks of one node, so that conflicts are easy to make. Remembers what was asked.
class ModelLocks final : public FileLocks {
 public:
  explicit ModelLocks(Executor& executor) : changed_(executor) {}

  Task<Result<>> set(BlockNo inode, FileLock wanted, LockWaiter* waiter) override {
    asked.push_back(wanted);
    const auto key = std::pair(inode, wanted.kind);
    if (wanted.mode == FileLockMode::unlocked) {
      std::erase_if(held, [&](const auto& one) { return one.first == key && one.second.owner == wanted.owner; });
      changed_.notify_all();
      co_return Result<>();
    }
    if (waiter != nullptr) waiter->on_interrupt = [this] { changed_.notify_all(); };
    while (held.contains(key) && held.at(key).owner != wanted.owner) {
      if (waiter == nullptr) co_return fail(EAGAIN);
      if (waiter->interrupted()) co_return fail(EINTR);
      co_await changed_.wait();
    }
    held[key] = wanted;
    co_return Result<>();
  }
  Task<Result<std::optional<FileLockInTheWay>>> test(BlockNo inode, FileLock wanted) override {
    auto found = held.find({inode, wanted.kind});
    if (found == held.end() || found->second.owner == wanted.owner) co_return std::nullopt;
    const FileLock& lock = found->second;
    co_return FileLockInTheWay{lock.mode, lock.first, lock.last, here, lock.process};
  }

  std::map<std::pair<BlockNo, FileLockKind>, FileLock> held;
  std::vector<FileLock> asked;
  bool here = true;

 private:
  Signal changed_;
};

struct Lock {
  std::uint64_t owner = 0;
  std::uint64_t handle = 2;
  std::uint32_t type = F_WRLCK;
  std::uint64_t first = 0;
  std::uint64_t last = kLastByte;
  std::uint32_t flags = 0;
};

/// The requests, and the kernel's end of their channel.
struct Kernel {
  explicit Kernel(bool served = true) {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    descriptor = FileDescriptor(ends[0]);
    channel.emplace(FileDescriptor(ends[1]), 1 << 16, Logger(log));
    if (served) requests.set_locks(locks);
  }

  /// Returns the number of the request.
  std::uint64_t send(std::uint32_t opcode, const Lock& lock, BlockNo inode = kFile) {
    struct {
      fuse_in_header header{};
      fuse_lk_in body{};
    } bytes;
    bytes.header.len = sizeof(bytes);
    bytes.header.opcode = opcode;
    bytes.header.unique = ++last_;
    bytes.body = {.fh = lock.handle,
                  .owner = lock.owner,
                  .lk = {.start = lock.first, .end = lock.last, .type = lock.type, .pid = 1234},
                  .lk_flags = lock.flags,
                  .padding = 0};
    REQUIRE(write(descriptor.get(), &bytes, sizeof(bytes)) == sizeof(bytes));
    std::optional<Message> message;
    REQUIRE(channel->receive(message) == Channel::Received::message);
    Request request(*channel, *std::move(message), latencies);
    scope.spawn(opcode == FUSE_GETLK ? requests.test(std::move(request), inode)
                                     : requests.set(std::move(request), inode, opcode == FUSE_SETLKW));
    return last_;
  }
  /// The answer to the request, if there is one yet: 0 or an error; GETLK's lock is kept.
  std::optional<int> answer(std::uint64_t unique) {
    while (executor.run_ready() != 0) {
    }
    struct {
      fuse_out_header header{};
      fuse_lk_out body{};
    } bytes;
    while (read(descriptor.get(), &bytes, sizeof(bytes)) >= static_cast<ssize_t>(sizeof(fuse_out_header))) {
      REQUIRE(answers_.emplace(bytes.header.unique, -bytes.header.error).second);
      found = bytes.body.lk;
    }
    auto there = answers_.find(unique);
    return there == answers_.end() ? std::nullopt : std::optional(there->second);
  }
  std::optional<int> ask(std::uint32_t opcode, const Lock& lock, BlockNo inode = kFile) {
    return answer(send(opcode, lock, inode));
  }
  void flush(std::uint64_t owner, BlockNo inode = kFile) { scope.spawn(requests.closed(inode, owner)); }
  void release(std::uint64_t handle, std::uint64_t flock_owner = 0) {
    fuse_release_in in{};
    in.fh = handle;
    in.lock_owner = flock_owner;
    in.release_flags = flock_owner != 0 ? FUSE_RELEASE_FLOCK_UNLOCK : 0;
    scope.spawn(requests.released(kFile, in));
  }

  NullLogSink log;
  ManualClock clock;
  Executor executor{clock};
  ModelLocks locks{executor};
  FileDescriptor descriptor;
  std::optional<Channel> channel;
  RequestLatencies latencies{clock};
  LockRequests requests;
  Scope scope{executor};
  fuse_file_lock found{};

 private:
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, int> answers_;
};

TEST_CASE("a lock is asked for with the kernel's owner, range and process") {
  Kernel kernel;
  CHECK(kernel.ask(FUSE_SETLK, {.owner = 9, .type = F_RDLCK, .first = 10, .last = 19}) == 0);
  REQUIRE(kernel.locks.asked.size() == 1);
  const FileLock& asked = kernel.locks.asked.front();
  CHECK((asked.kind == FileLockKind::record && asked.mode == FileLockMode::read));
  CHECK((asked.first == 10 && asked.last == 19 && asked.owner == 9 && asked.process == 1234));
  // A flock's range is the file, whatever the kernel says of it.
  CHECK(kernel.ask(FUSE_SETLK, {.owner = 9, .first = 5, .last = 4, .flags = FUSE_LK_FLOCK}) == 0);
  const FileLock& flock = kernel.locks.asked.back();
  CHECK((flock.kind == FileLockKind::flock && flock.mode == FileLockMode::write));
  CHECK((flock.first == 0 && flock.last == kLastByte));
}

TEST_CASE("what is no lock is refused") {
  Kernel kernel;
  for (std::uint32_t opcode : {FUSE_SETLK, FUSE_SETLKW, FUSE_GETLK}) {
    CHECK(kernel.ask(opcode, {.type = 77}) == EINVAL);
    CHECK(kernel.ask(opcode, {.first = 5, .last = 4}) == EINVAL);
    CHECK(kernel.ask(opcode, {.last = kLastByte + 1}) == EINVAL);
  }
  CHECK(kernel.locks.asked.empty());
}

TEST_CASE("GETLK tells range, type and process; another node's process is no process here") {
  Kernel kernel;
  CHECK(kernel.ask(FUSE_GETLK, {.owner = 1}) == 0);
  CHECK(kernel.found.type == F_UNLCK);
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 2, .type = F_WRLCK, .first = 3, .last = 4}) == 0);
  CHECK(kernel.ask(FUSE_GETLK, {.owner = 1}) == 0);
  CHECK((kernel.found.type == F_WRLCK && kernel.found.start == 3 && kernel.found.end == 4));
  CHECK(kernel.found.pid == 1234);
  kernel.locks.here = false;
  CHECK(kernel.ask(FUSE_GETLK, {.owner = 1}) == 0);
  CHECK((kernel.found.type == F_WRLCK && kernel.found.pid == 0));
}

TEST_CASE("SETLK is refused where SETLKW waits, until it is unlocked or interrupted") {
  Kernel kernel;
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 1}) == 0);
  CHECK(kernel.ask(FUSE_SETLK, {.owner = 2}) == EAGAIN);
  const std::uint64_t waiting = kernel.send(FUSE_SETLKW, {.owner = 2});
  const std::uint64_t other = kernel.send(FUSE_SETLKW, {.owner = 3});
  CHECK_FALSE(kernel.answer(waiting));
  kernel.requests.interrupt(waiting);
  CHECK(kernel.answer(waiting) == EINTR);
  CHECK_FALSE(kernel.answer(other));
  CHECK(kernel.ask(FUSE_SETLKW, {.owner = 1, .type = F_UNLCK}) == 0);
  CHECK(kernel.answer(other) == 0);
  // Too late, and of nothing that waits: no harm.
  kernel.requests.interrupt(other);
  kernel.requests.interrupt(999);
  CHECK((kernel.locks.held.size() == 1 && kernel.locks.held.begin()->second.owner == 3));
  // The mount ends.
  const std::uint64_t last = kernel.send(FUSE_SETLKW, {.owner = 4});
  CHECK_FALSE(kernel.answer(last));
  kernel.requests.end();
  CHECK(kernel.answer(last) == EIO);
}

TEST_CASE("closing any descriptor lets go of the process's record locks on that file, and of nobody else's") {
  Kernel kernel;
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 1, .handle = 2}) == 0);
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 1, .handle = 4}, kOther) == 0);
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 5, .handle = 2, .flags = FUSE_LK_FLOCK}) == 0);
  const std::size_t before = kernel.locks.asked.size();
  kernel.flush(8);
  kernel.flush(1, BlockNo(702));
  CHECK(kernel.locks.asked.size() == before);
  CHECK(kernel.locks.held.size() == 3);
  kernel.flush(1);
  CHECK(kernel.locks.held.size() == 2);
  CHECK(kernel.locks.held.contains({kOther, FileLockKind::record}));
  CHECK(kernel.locks.held.contains({kFile, FileLockKind::flock}));
  // Who has unlocked everything has nothing left to let go of.
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 1, .handle = 4, .type = F_UNLCK}, kOther) == 0);
  const std::size_t asked = kernel.locks.asked.size();
  kernel.flush(1, kOther);
  CHECK(kernel.locks.asked.size() == asked);
}

TEST_CASE("the end of an open file lets go of its flock and its own record locks, not of what a process took since") {
  Kernel kernel;
  constexpr std::uint64_t kOpenFile = 50;
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = kOpenFile, .handle = 2, .flags = FUSE_LK_FLOCK}) == 0);
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = kOpenFile, .handle = 2}) == 0);
  kernel.flush(1);
  CHECK(kernel.locks.held.size() == 2);
  kernel.release(2, kOpenFile);
  CHECK(kernel.locks.held.empty());
  // A process locks through one open file, closes it, and locks through another before the first one's end is told.
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 1, .handle = 4}) == 0);
  kernel.flush(1);
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 1, .handle = 6}) == 0);
  kernel.release(4);
  CHECK(kernel.locks.held.size() == 1);
}

TEST_CASE("a lock that is granted while its owner unlocks everything is known") {
  Kernel kernel;
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 2}) == 0);
  const std::uint64_t waiting = kernel.send(FUSE_SETLKW, {.owner = 1});
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 1, .type = F_UNLCK}) == 0);
  REQUIRE(kernel.ask(FUSE_SETLK, {.owner = 2, .type = F_UNLCK}) == 0);
  REQUIRE(kernel.answer(waiting) == 0);
  kernel.flush(1);
  CHECK(kernel.locks.held.empty());
}

TEST_CASE("without anybody to grant, there are no locks here") {
  Kernel kernel(false);
  CHECK_FALSE(kernel.requests.served());
  CHECK(kernel.ask(FUSE_SETLK, {.owner = 1}) == ENOSYS);
  CHECK(kernel.ask(FUSE_GETLK, {.owner = 1}) == ENOSYS);
}

}  // namespace
}  // namespace corral
