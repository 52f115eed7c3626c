#include "disk/sg_transport.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include <scsi/sg.h>
#include <sys/ioctl.h>

namespace corral {

namespace {
constexpr unsigned kTimeoutMs = 30'000;
constexpr std::size_t kSenseBytes = 64;
/// SG_SCSI_RESET_NO_ESCALATE, which the C library's header lacks.
constexpr int kNoEscalation = 0x100;

/// One call of SG_IO, with all that it touches.
struct Call {
  scsi::Command command;
  std::vector<std::byte> data;
  std::array<unsigned char, kSenseBytes> sense{};
  sg_io_hdr_t header{};
  int error = 0;
};

int direction_of(const scsi::Command& command) {
  switch (command.direction) {
    case scsi::Command::Direction::none:
      return SG_DXFER_NONE;
    case scsi::Command::Direction::from_device:
      return SG_DXFER_FROM_DEV;
    case scsi::Command::Direction::to_device:
      return SG_DXFER_TO_DEV;
  }
  return SG_DXFER_NONE;
}

void perform(int descriptor, Call& call) {
  call.header.interface_id = 'S';
  call.header.dxfer_direction = direction_of(call.command);
  call.header.cmd_len = call.command.cdb_length;
  call.header.cmdp = call.command.cdb.data();
  call.header.dxfer_len = static_cast<unsigned>(call.data.size());
  call.header.dxferp = call.data.data();
  call.header.mx_sb_len = kSenseBytes;
  call.header.sbp = call.sense.data();
  call.header.timeout = kTimeoutMs;
  if (ioctl(descriptor, SG_IO, &call.header) != 0) call.error = errno;
}
}  // namespace

bool SgTransport::takes_commands(int descriptor) {
  int version = 0;
  constexpr int kOldest = 30000;
  return ioctl(descriptor, SG_GET_VERSION_NUM, &version) == 0 && version >= kOldest;
}

SgTransport::SgTransport(EventLoop& loop, FileDescriptor device, std::string name)
    : name_(std::move(name)), device_(std::make_shared<FileDescriptor>(std::move(device))), helper_(loop, 1) {}

Task<Result<scsi::Outcome>> SgTransport::execute(scsi::Command command, std::span<std::byte> data) {
  auto call = std::make_shared<Call>();
  call->command = command;
  call->data.assign(data.begin(), data.end());
  co_await helper_.run([call, device = device_] { perform(device->get(), *call); });
  const sg_io_hdr_t& header = call->header;
  if (call->error != 0) {
    co_return fail_device(call->error, "{}: {} could not be sent: {}", name_, command.name, std::strerror(call->error));
  }
  if (header.host_status != 0) {
    co_return fail_device(ECONNABORTED, "{}: the way to the disk broke during {} (host status {:02X}h)", name_,
                          command.name, header.host_status);
  }
  scsi::Outcome outcome{.status = static_cast<scsi::Status>(header.status)};
  auto sense_bytes = std::min<std::size_t>(header.sb_len_wr, kSenseBytes);
  outcome.sense = scsi::decode_sense(std::as_bytes(std::span(call->sense)).first(sense_bytes));
  auto left = static_cast<std::size_t>(std::max(header.resid, 0));
  outcome.transferred_bytes = static_cast<std::uint32_t>(call->data.size() - std::min(left, call->data.size()));
  if (command.direction == scsi::Command::Direction::from_device) std::ranges::copy(call->data, data.begin());
  co_return outcome;
}

Task<Result<>> SgTransport::reset_logical_unit() {
  auto error = std::make_shared<int>(0);
  co_await helper_.run([error, device = device_] {
    int what = SG_SCSI_RESET_DEVICE | kNoEscalation;
    if (ioctl(device->get(), SG_SCSI_RESET, &what) != 0) *error = errno;
  });
  if (*error == 0) co_return Result<>{};
  int code = *error == EINVAL || *error == ENOTTY ? EOPNOTSUPP : *error;
  co_return fail_device(code, "{}: LOGICAL UNIT RESET failed: {}", name_, std::strerror(*error));
}

}  // namespace corral
