#include "disk/nvme_reservations.h"

#include <cstring>
#include <vector>

#include <linux/nvme_ioctl.h>
#include <linux/pr.h>
#include <sys/ioctl.h>

namespace corral {

using reservation_format::NvmeReport;

namespace {
/// Status codes (NVMe 1.4 4.6.1): generic ones, without the bits for more information and retries.
constexpr int kStatusMask = 0x7FF;
constexpr int kInvalidOpcode = 0x01;
constexpr int kInvalidField = 0x02;
constexpr int kConflict = 0x83;
/// As the kernel translates the conflict since 6.3 (PR_STS_RESERVATION_CONFLICT).
constexpr int kTranslatedConflict = 0x18;

constexpr std::size_t kFirstBytes = 4096;
constexpr std::size_t kMostBytes = 1 << 20;

/// What an ioctl gave: 0, a negative errno, or a positive NVMe status.
int errno_of(int result) {
  if (result < 0) return result == -ENOTTY ? EOPNOTSUPP : -result;
  switch (result & kStatusMask) {
    case kConflict:
    case kTranslatedConflict:
      return EBADE;
    case kInvalidOpcode:
    case kInvalidField:
      return EOPNOTSUPP;
    default:
      return EIO;
  }
}

int call_ioctl(int descriptor, unsigned long request, void* argument) {
  int result = ioctl(descriptor, request, argument);
  return result < 0 ? -errno : result;
}

int report_into(int descriptor, std::vector<std::byte>& data, bool extended) {
  int space = ioctl(descriptor, NVME_IOCTL_ID);
  if (space < 0) return -errno;
  constexpr std::uint8_t kReservationReport = 0x0E;
  nvme_passthru_cmd command{};
  command.opcode = kReservationReport;
  command.nsid = static_cast<__u32>(space);
  command.addr = reinterpret_cast<std::uintptr_t>(data.data());
  command.data_len = static_cast<__u32>(data.size());
  command.cdw10 = static_cast<__u32>(data.size() / 4 - 1);
  command.cdw11 = extended ? 1 : 0;
  return call_ioctl(descriptor, NVME_IOCTL_IO_CMD, &command);
}
}  // namespace

bool NvmeReservations::is_namespace(int descriptor) {
  return ioctl(descriptor, NVME_IOCTL_ID) > 0;
}

NvmeReservations::NvmeReservations(EventLoop& loop, FileDescriptor device, std::string name)
    : name_(std::move(name)),
      device_(std::make_shared<FileDescriptor>(std::move(device))),
      helper_(loop, 1),
      turn_(loop.executor()) {}

Task<Result<>> NvmeReservations::change(const char* command, std::function<int(int)> call) {
  Mutex::Guard turn = co_await turn_.lock();
  auto result = std::make_shared<int>(0);
  co_await helper_.run([result, call = std::move(call), device = device_] { *result = call(device->get()); });
  if (*result == 0) co_return Result<>{};
  int code = errno_of(*result);
  co_return fail_device(code, "{}: {} failed: {} ({})", name_, command, std::strerror(code), *result);
}

Task<Result<>> NvmeReservations::register_key(ReservationKey old_key, ReservationKey new_key, bool) {
  return change("REGISTER", [=](int device) {
    pr_registration registration{.old_key = old_key.value, .new_key = new_key.value, .flags = 0, .__pad = 0};
    return call_ioctl(device, IOC_PR_REGISTER, &registration);
  });
}

Task<Result<>> NvmeReservations::register_and_ignore(ReservationKey new_key, bool) {
  return change("REGISTER AND IGNORE EXISTING KEY", [=](int device) {
    pr_registration registration{.old_key = 0, .new_key = new_key.value, .flags = PR_FL_IGNORE_KEY, .__pad = 0};
    return call_ioctl(device, IOC_PR_REGISTER, &registration);
  });
}

Task<Result<>> NvmeReservations::reserve(ReservationKey own_key) {
  return change("RESERVE", [=](int device) {
    pr_reservation reservation{.key = own_key.value, .type = PR_WRITE_EXCLUSIVE_REG_ONLY, .flags = 0};
    return call_ioctl(device, IOC_PR_RESERVE, &reservation);
  });
}

Task<Result<>> NvmeReservations::release(ReservationKey own_key) {
  return change("RELEASE", [=](int device) {
    pr_reservation reservation{.key = own_key.value, .type = PR_WRITE_EXCLUSIVE_REG_ONLY, .flags = 0};
    return call_ioctl(device, IOC_PR_RELEASE, &reservation);
  });
}

Task<Result<>> NvmeReservations::clear(ReservationKey own_key) {
  return change("CLEAR", [=](int device) {
    pr_clear clearing{.key = own_key.value, .flags = 0, .__pad = 0};
    return call_ioctl(device, IOC_PR_CLEAR, &clearing);
  });
}

namespace {
pr_preempt preemption(ReservationKey own_key, ReservationKey victim) {
  return {.old_key = victim.value, .new_key = own_key.value, .type = PR_WRITE_EXCLUSIVE_REG_ONLY, .flags = 0};
}
}  // namespace

Task<Result<>> NvmeReservations::preempt(ReservationKey own_key, ReservationKey victim) {
  // linux/pr.h: "old_key" is the one that goes, "new_key" the caller's own.
  return change("PREEMPT", [=](int device) {
    pr_preempt preempting = preemption(own_key, victim);
    return call_ioctl(device, IOC_PR_PREEMPT, &preempting);
  });
}

Task<Result<>> NvmeReservations::preempt_and_abort(ReservationKey own_key, ReservationKey victim) {
  return change("PREEMPT AND ABORT", [=](int device) {
    pr_preempt preempting = preemption(own_key, victim);
    return call_ioctl(device, IOC_PR_PREEMPT_ABORT, &preempting);
  });
}

Task<Result<NvmeReport>> NvmeReservations::report() {
  struct Asked {
    std::vector<std::byte> data;
    bool extended = true;
    int result = 0;
  };
  Mutex::Guard turn = co_await turn_.lock();
  for (std::size_t room = kFirstBytes;;) {
    auto asked = std::make_shared<Asked>();
    asked->data.resize(room);
    co_await helper_.run([asked, device = device_] {
      // Which form a controller gives depends on the length of the host's identifier.
      asked->result = report_into(device->get(), asked->data, true);
      if (asked->result == 0) return;
      asked->extended = false;
      asked->result = report_into(device->get(), asked->data, false);
    });
    if (asked->result != 0) {
      int code = errno_of(asked->result);
      co_return fail_device(code, "{}: the reservation report failed: {} ({})", name_, std::strerror(code),
                            asked->result);
    }
    auto decoded = reservation_format::decode_nvme_report(asked->data, asked->extended);
    if (!decoded) co_return std::unexpected(decoded.error().within(name_));
    if (decoded->needed_bytes <= room) co_return std::move(decoded);
    if (decoded->needed_bytes > kMostBytes)
      co_return fail_device(EPROTO, "{}: a reservation report of {} bytes", name_, decoded->needed_bytes);
    room = (decoded->needed_bytes + kFirstBytes - 1) / kFirstBytes * kFirstBytes;
  }
}

Task<Result<RegisteredKeys>> NvmeReservations::read_keys() {
  CO_TRY(NvmeReport read, co_await report());
  co_return std::move(read.registered);
}

Task<Result<ReservationState>> NvmeReservations::read_reservation() {
  CO_TRY(NvmeReport read, co_await report());
  co_return read.state;
}

Task<Result<ReservationCapabilities>> NvmeReservations::report_capabilities() {
  CO_TRY(NvmeReport read, co_await report());
  // Persistence is a matter of course for the kernel, or its registrations fail.
  co_return ReservationCapabilities{.persist_through_power_loss = read.persisting, .persisting = read.persisting};
}

Task<Result<>> NvmeReservations::reset_logical_unit() {
  co_return fail_device(EOPNOTSUPP, "{}: NVMe has no reset of a namespace alone", name_);
}

}  // namespace corral
