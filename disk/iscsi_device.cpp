#include "disk/iscsi_device.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include <sys/socket.h>
#include <sys/un.h>

#include "disk/transfer_check.h"

namespace corral {

using scsi::Status;

namespace {
/// One command's data, unless the target wants less: enough to stream, while others get their turn.
constexpr std::uint32_t kMostTransferBytes = 1 << 20;
constexpr std::uint64_t kMostDiscardBytes = 1 << 30;
/// Vectors of one command; the socket takes IOV_MAX (1024) at once.
constexpr std::size_t kMostVectors = 512;
constexpr std::uint16_t kPageBytes = 64;

/// A name that only one process of this network namespace can have; it goes with the process, however that ends.
Result<FileDescriptor> claim_name(const IscsiName& name, const std::string& shown) {
  FileDescriptor claim(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!claim) return fail(errno, "socket: {}", std::strerror(errno));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // The first byte stays 0: an abstract name, which no file stands for. A long one is told apart by its end.
  std::string text = fmt::format("corral {} {} {}", name.lun, name.portal(), name.target);
  constexpr std::size_t kRoom = sizeof(address.sun_path) - 1;
  if (text.size() > kRoom) text.erase(0, text.size() - kRoom);
  std::memcpy(address.sun_path + 1, text.data(), text.size());
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  if (bind(claim.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0) return claim;
  if (errno == EADDRINUSE) return fail(EBUSY, "{} is in use by another program on this host", shown);
  return fail(errno, "{}: bind: {}", shown, std::strerror(errno));
}

struct Part {
  std::uint64_t offset_bytes = 0;
  std::uint32_t length_bytes = 0;
  IscsiData data;
};

/// Cuts a transfer into what one command may carry. Parts end at multiples of the sector, as spans do.
template <class Span>
std::vector<Part> parts_of(std::uint64_t offset_bytes, std::span<const Span> spans, std::uint32_t most_bytes) {
  std::vector<Part> parts;
  for (const Span& span : spans) {
    for (std::size_t done = 0; done < span.size();) {
      if (parts.empty() || parts.back().length_bytes == most_bytes || parts.back().data.vectors.size() == kMostVectors)
        parts.push_back({.offset_bytes = offset_bytes, .length_bytes = 0, .data = {}});
      Part& part = parts.back();
      std::size_t length = std::min<std::size_t>(span.size() - done, most_bytes - part.length_bytes);
      // The kernel's type serves both directions.
      part.data.vectors.push_back({const_cast<std::byte*>(span.data() + done), length});
      part.length_bytes += static_cast<std::uint32_t>(length);
      offset_bytes += length;
      done += length;
    }
  }
  return parts;
}

/// READ or WRITE: for parameter lists, some targets (tgt) report as left over what they have taken.
bool moves_blocks(const scsi::Command& command) {
  static const std::uint8_t kRead = scsi::read(0, 0, 0).cdb[0], kWrite = scsi::write(0, 0, 0, false).cdb[0];
  return command.cdb[0] == kRead || command.cdb[0] == kWrite;
}

std::uint32_t saturated_product(std::uint64_t blocks, std::uint32_t block_bytes) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(blocks * block_bytes, std::numeric_limits<std::uint32_t>::max() & ~(block_bytes - 1)));
}
}  // namespace

Task<Result<std::unique_ptr<IscsiDevice>>> IscsiDevice::open(EventLoop& loop, std::string name,
                                                             StorageOptions options) {
  CO_TRY(IscsiName parsed, IscsiName::parse(name));
  FileDescriptor claim;
  if (options.exclusive) {
    CO_TRY(claim, claim_name(parsed, name));
  }
  // Writing to a connection that the target has closed is an error like any other, not a reason to die.
  std::signal(SIGPIPE, SIG_IGN);
  CO_TRY(std::unique_ptr<IscsiSession> session,
         co_await IscsiSession::open(loop, std::move(parsed), name, !options.read_only));
  auto device = std::unique_ptr<IscsiDevice>(
      new IscsiDevice(loop, std::move(name), std::move(claim), std::move(session), options));
  CO_TRY_VOID(co_await device->learn());
  co_return std::move(device);
}

IscsiDevice::IscsiDevice(EventLoop& loop, std::string name, FileDescriptor claim, std::unique_ptr<IscsiSession> session,
                         StorageOptions options)
    : executor_(loop.executor()),
      name_(std::move(name)),
      claim_(std::move(claim)),
      session_(std::move(session)),
      reservations_(loop.executor(), *session_),
      free_(loop.executor(), options.queue_depth),
      gate_(loop.executor()) {
  geometry_.read_only = options.read_only;
}

IscsiDevice::~IscsiDevice() = default;

/// Sizes, limits and abilities. What the target does not tell is taken for the most careful.
Task<Result<>> IscsiDevice::learn() {
  const scsi::Capacity& capacity = session_->capacity();
  const std::uint32_t block_bytes = capacity.block_bytes;
  geometry_.size_bytes = capacity.blocks * block_bytes;
  geometry_.sector_bytes = block_bytes;
  geometry_.physical_sector_bytes = capacity.physical_block_bytes;
  geometry_.alignment_offset_bytes = capacity.alignment_offset_bytes;

  scsi::BlockLimits limits;
  if (auto page = co_await session_->query(scsi::inquiry_page(scsi::kBlockLimitsPage, kPageBytes)))
    if (auto decoded = scsi::decode_block_limits(*page)) limits = *decoded;
  scsi::Provisioning provisioning;
  if (auto page = co_await session_->query(scsi::inquiry_page(scsi::kProvisioningPage, kPageBytes)))
    if (auto decoded = scsi::decode_provisioning(*page)) provisioning = *decoded;
  scsi::Caching caching;
  if (auto page = co_await session_->query(scsi::mode_sense_caching()))
    if (auto decoded = scsi::decode_caching(*page)) caching = *decoded;

  geometry_.volatile_write_cache = caching.write_cache;
  geometry_.read_only |= caching.write_protected;
  force_unit_access_ = caching.force_unit_access;
  geometry_.minimum_io_bytes = saturated_product(limits.optimal_granularity_blocks, block_bytes);
  geometry_.optimal_io_bytes = saturated_product(limits.optimal_transfer_blocks, block_bytes);
  most_transfer_bytes_ = std::max(kMostTransferBytes, block_bytes);
  if (limits.most_transfer_blocks > 0)
    most_transfer_bytes_ = std::min(most_transfer_bytes_, saturated_product(limits.most_transfer_blocks, block_bytes));

  std::uint64_t most_discard = kMostDiscardBytes / block_bytes;
  if (provisioning.unmap && limits.most_unmap_blocks > 0) {
    discard_way_ = DiscardWay::unmap;
    most_discard = std::min<std::uint64_t>(most_discard, limits.most_unmap_blocks);
  } else if (provisioning.write_same_unmap) {
    discard_way_ = DiscardWay::write_same;
    if (limits.most_write_same_blocks > 0) most_discard = std::min(most_discard, limits.most_write_same_blocks);
  }
  if (discard_way_ != DiscardWay::none) {
    most_discard_blocks_ = static_cast<std::uint32_t>(most_discard);
    geometry_.discard_granularity_bytes = saturated_product(std::max(limits.unmap_granularity_blocks, 1u), block_bytes);
  }
  co_return Result<>{};
}

std::unexpected<Error> IscsiDevice::closed() const {
  return fail_device(ESHUTDOWN, "{}: the device is closed", name_);
}

Task<Result<>> IscsiDevice::send(scsi::Command command, IscsiData data, std::uint64_t offset_bytes) {
  co_await free_.acquire();
  auto outcome = co_await session_->perform(command, std::move(data));
  free_.release();
  if (!outcome) co_return std::unexpected(std::move(outcome).error());
  if (outcome->status != Status::good) {
    co_return fail_device(scsi::error_code(*outcome), "{}: {} of {} bytes at offset {} failed: {}", name_, command.name,
                          command.length_bytes, offset_bytes, scsi::describe(*outcome));
  }
  if (moves_blocks(command) && outcome->transferred_bytes != command.length_bytes) {
    co_return fail_device(EIO, "{}: {} of {} bytes at offset {} moved {} only", name_, command.name,
                          command.length_bytes, offset_bytes, outcome->transferred_bytes);
  }
  co_return Result<>{};
}

Task<void> IscsiDevice::send_part(scsi::Command command, IscsiData data, std::uint64_t offset_bytes, Result<>& result) {
  Result<> sent = co_await send(command, std::move(data), offset_bytes);
  if (!sent && result) result = std::move(sent);
}

template <class Span>
Task<Result<>> IscsiDevice::transfer(bool writing, bool force_unit_access, std::uint64_t offset_bytes,
                                     std::span<const Span> spans) {
  const std::uint32_t block_bytes = geometry_.sector_bytes;
  std::vector<Part> parts = parts_of(offset_bytes, spans, most_transfer_bytes_);
  auto command_for = [&](const Part& part) {
    std::uint64_t block = part.offset_bytes / block_bytes;
    std::uint32_t blocks = part.length_bytes / block_bytes;
    return writing ? scsi::write(block, blocks, block_bytes, force_unit_access)
                   : scsi::read(block, blocks, block_bytes);
  };
  if (parts.size() == 1)
    co_return co_await send(command_for(parts[0]), std::move(parts[0].data), parts[0].offset_bytes);
  Result<> result;
  Scope scope(executor_);
  for (Part& part : parts)
    scope.spawn(send_part(command_for(part), std::move(part.data), part.offset_bytes, result));
  co_await scope.join();
  co_return result;
}

Task<Result<>> IscsiDevice::read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  CO_TRY_VOID(check_read(*this, offset_bytes, spans));
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  co_return co_await transfer(false, false, offset_bytes, spans);
}

Task<Result<>> IscsiDevice::write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) {
  CO_TRY(std::uint64_t length, check_write(*this, offset_bytes, spans));
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  if (length == 0) co_return Result<>{};
  bool cache = geometry_.volatile_write_cache;
  bool through = mode == WriteMode::write_through && cache;
  CO_TRY_VOID(co_await transfer(true, through && force_unit_access_, offset_bytes, spans));
  if (cache && !(through && force_unit_access_)) session_->write_cache().note_write();
  if (through && !force_unit_access_) co_return co_await synchronize();
  co_return Result<>{};
}

Task<Result<>> IscsiDevice::synchronize() {
  WriteCacheState& cache = session_->write_cache();
  WriteCacheState::Mark mark = cache.begin_flush();
  Result<> sent = cache.lost() ? Result<>{} : co_await send(scsi::synchronize_cache(), {}, 0);
  if (cache.lost()) {
    co_return fail_device(EIO,
                          "{}: the target was restarted, and writes that it had acknowledged may be lost: unmount and "
                          "mount again, so that the journal is replayed",
                          name_);
  }
  if (sent) cache.end_flush(mark);
  co_return sent;
}

Task<Result<>> IscsiDevice::flush() {
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  if (geometry_.read_only || !geometry_.volatile_write_cache) co_return Result<>{};
  co_return co_await synchronize();
}

Task<Result<>> IscsiDevice::discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  CO_TRY_VOID(check_discard(*this, offset_bytes, length_bytes));
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  const std::uint32_t block_bytes = geometry_.sector_bytes;
  std::uint64_t block = offset_bytes / block_bytes;
  const std::uint64_t end = block + length_bytes / block_bytes;
  while (block < end) {
    auto blocks = static_cast<std::uint32_t>(std::min<std::uint64_t>(end - block, most_discard_blocks_));
    bool unmap = discard_way_ == DiscardWay::unmap;
    std::vector<std::byte> data =
        unmap ? scsi::encode_unmap(block, blocks) : std::vector<std::byte>(block_bytes, std::byte{0});
    scsi::Command command = unmap ? scsi::unmap() : scsi::write_same_unmap(block, blocks, block_bytes);
    CO_TRY_VOID(co_await send(command, IscsiData::of(std::move(data)), block * block_bytes));
    block += blocks;
  }
  co_return Result<>{};
}

Task<Result<>> IscsiDevice::refresh_size() {
  std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return closed();
  CO_TRY(const auto data, co_await session_->query(scsi::read_capacity()));
  CO_TRY(const scsi::Capacity capacity, scsi::decode_capacity(data));
  if (capacity.block_bytes != geometry_.sector_bytes)
    co_return fail_device(EIO, "{}: the disk has blocks of {} bytes now, it had {}", name_, capacity.block_bytes,
                          geometry_.sector_bytes);
  geometry_.size_bytes = std::max(geometry_.size_bytes, capacity.blocks * capacity.block_bytes);
  co_return Result<>{};
}

Task<void> IscsiDevice::close() {
  co_await gate_.close();
  co_await session_->close();
}

}  // namespace corral
