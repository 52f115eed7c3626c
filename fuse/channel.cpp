#include "fuse/channel.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include <fcntl.h>
#include <unistd.h>

#include "base/aligned_buffer.h"

namespace corral {

namespace {
constexpr std::size_t kAlignment = AlignedBuffer::kAlignment;
/// Before a WRITE's payload; with it the payload of a message that is read to `kAlignment - kWriteHead` is aligned.
constexpr std::size_t kWriteHead = sizeof(fuse_in_header) + sizeof(fuse_write_in);
/// Payloads below are copied, so that a waiting request does not hold a large buffer.
constexpr std::size_t kCopyLimit = 32768;
/// Header and arguments of an answer; the largest is READ's: header and data.
constexpr std::size_t kMostParts = 4;

std::byte* allocate(std::size_t bytes) {
  std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void LargeBuffers::GiveBack::operator()(std::byte* memory) const {
  if (pool == nullptr || pool->free_.size() >= kKept) return std::free(memory);
  pool->free_.push_back(memory);
}

LargeBuffers::~LargeBuffers() {
  for (std::byte* memory : free_)
    std::free(memory);
}

LargeBuffers::Buffer LargeBuffers::take() {
  if (free_.empty()) return Buffer(allocate(bytes_), GiveBack{this});
  std::byte* memory = free_.back();
  free_.pop_back();
  return Buffer(memory, GiveBack{this});
}

LargeBuffers::Buffer LargeBuffers::take(std::size_t bytes) {
  if (bytes > kCopyLimit && bytes <= bytes_) return take();
  return Buffer(allocate(std::max(bytes, kAlignment)), GiveBack{});
}

Channel::Channel(FileDescriptor descriptor, std::uint32_t max_write_bytes, Logger log)
    : descriptor_(std::make_shared<FileDescriptor>(std::move(descriptor))),
      max_write_bytes_(max_write_bytes),
      log_(std::move(log)),
      buffers_(kAlignment + max_write_bytes),
      receiving_(buffers_.take()) {}

Channel::Received Channel::receive(std::optional<Message>& message) {
  if (closed()) return Received::ended;
  for (;;) {
    ssize_t length =
        read(descriptor_->get(), receiving_.get() + kAlignment - kWriteHead, kWriteHead + max_write_bytes_);
    if (length >= static_cast<ssize_t>(sizeof(fuse_in_header))) {
      message.emplace(take_message(static_cast<std::size_t>(length)));
      return Received::message;
    }
    if (length >= 0) return Received::ended;
    // ENOENT: the request was aborted while it was being read.
    if (errno == EINTR || errno == ENOENT) continue;
    if (errno == EAGAIN) return Received::nothing;
    if (errno != ENODEV && errno != ECONNABORTED) log_.error("reading requests from the kernel: {}", strerror(errno));
    return Received::ended;
  }
}

Message Channel::take_message(std::size_t length) {
  std::byte* begin = receiving_.get() + kAlignment - kWriteHead;
  bool is_write = reinterpret_cast<const fuse_in_header*>(begin)->opcode == FUSE_WRITE;
  if (is_write && length > kCopyLimit) {
    LargeBuffers::Buffer full = std::exchange(receiving_, buffers_.take());
    return Message(std::move(full), {begin, length});
  }
  std::size_t offset = is_write ? kAlignment - kWriteHead : 0;
  LargeBuffers::Buffer copy = is_write ? buffers_.take(offset + length)
                                       : LargeBuffers::Buffer(static_cast<std::byte*>(std::malloc(length)), {});
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy.get() + offset, begin, length);
  std::span<const std::byte> bytes{copy.get() + offset, length};
  return Message(std::move(copy), bytes);
}

namespace {
/// An answer or a notification: the header, with its length filled in, and what follows it. An errno value.
int send(const FileDescriptor& descriptor, fuse_out_header header, std::span<const iovec> parts) {
  header.len = sizeof(header);
  std::array<iovec, kMostParts> all;
  CHECK_INVARIANT(parts.size() < all.size());
  all[0] = {&header, sizeof(header)};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    all[i + 1] = parts[i];
    header.len += static_cast<std::uint32_t>(parts[i].iov_len);
  }
  return writev(descriptor.get(), all.data(), static_cast<int>(parts.size() + 1)) < 0 ? errno : 0;
}

/// An errno value; what only means that the kernel has nothing to forget, or is gone, is not said to be an error by the
/// callers.
int notify(const FileDescriptor& descriptor, int code, std::span<const iovec> parts) {
  return send(descriptor, {.len = 0, .error = code, .unique = 0}, parts);
}

int notify_of_inode(const FileDescriptor& descriptor, std::uint64_t node, std::int64_t offset, std::int64_t length) {
  fuse_notify_inval_inode_out notification{.ino = node, .off = offset, .len = length};
  iovec part{&notification, sizeof(notification)};
  return notify(descriptor, FUSE_NOTIFY_INVAL_INODE, {&part, 1});
}
}  // namespace

void Channel::answer(std::uint64_t unique, int error, std::span<const iovec> parts) {
  const Verdict verdict = error == 0 && judge ? judge() : Verdict::give;
  if (verdict == Verdict::refuse) return send_answer(unique, EIO, {});
  if (verdict == Verdict::give) return send_answer(unique, error, parts);
  HeldAnswer held{.unique = unique, .bytes = {}};
  for (const iovec& part : parts) {
    const auto* begin = static_cast<const std::byte*>(part.iov_base);
    held.bytes.insert(held.bytes.end(), begin, begin + part.iov_len);
  }
  held_.push_back(std::move(held));
  if (on_held) on_held();
}

void Channel::settle_held(int error) {
  for (HeldAnswer& held : std::exchange(held_, {})) {
    iovec part{held.bytes.data(), held.bytes.size()};
    if (error != 0)
      send_answer(held.unique, error, {});
    else
      send_answer(held.unique, 0, {&part, 1});
  }
}

void Channel::send_answer(std::uint64_t unique, int error, std::span<const iovec> parts) {
  if (closed()) return;
  const int failed = send(*descriptor_, {.len = 0, .error = -error, .unique = unique}, parts);
  if (failed == 0 || failed == ENOENT || failed == ENODEV) return;
  log_.error("answering the kernel: {}", strerror(failed));
}

bool Channel::invalidate_attributes(std::uint64_t node) {
  if (closed()) return true;
  const int error = notify_of_inode(*descriptor_, node, -1, 0);
  if (error != 0 && error != ENOENT && error != ENODEV)
    log_.error("telling the kernel of changed attributes: {}", strerror(error));
  return error != ENOENT;
}

void Channel::invalidate_names() {
  if (closed()) return;
  if (const int error = notify(*descriptor_, protocol::kNotifyIncrementEpoch, {}); error != 0 && error != ENODEV)
    log_.error("telling the kernel of changed names: {}", strerror(error));
}

void Channel::Notifier::invalidate_data(std::uint64_t node, std::uint64_t offset, std::uint64_t length) const {
  // What can fail is that the kernel does not know the node, or is gone.
  notify_of_inode(*descriptor_, node, static_cast<std::int64_t>(offset), static_cast<std::int64_t>(length));
}

void Channel::Notifier::prune(std::uint64_t node) const {
  protocol::NotifyPrune notification{.count = 1, .padding = 0, .spare = 0};
  std::array<iovec, 2> parts{{{&notification, sizeof(notification)}, {&node, sizeof(node)}}};
  // A hint: a kernel that does not know it lets go when memory is short.
  notify(*descriptor_, protocol::kNotifyPrune, parts);
}

std::string_view Request::name(std::size_t offset) const {
  std::span<const std::byte> bytes = rest(offset);
  const void* end = std::memchr(bytes.data(), 0, bytes.size());
  CHECK_INVARIANT(end != nullptr);
  const char* begin = reinterpret_cast<const char*>(bytes.data());
  return {begin, static_cast<std::size_t>(static_cast<const char*>(end) - begin)};
}

}  // namespace corral
