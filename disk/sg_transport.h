/// SCSI commands to a disk of the kernel's: SG_IO on its block device (scsi/sg.h, version 3). They bypass the block
/// layer's queue, not the disk's.
#pragma once

#include <memory>
#include <string>

#include "base/file_descriptor.h"
#include "disk/event_loop.h"
#include "disk/helper_threads.h"
#include "disk/scsi.h"

namespace corral {

class SgTransport final : public scsi::Transport {
 public:
  /// Whether the open block device takes SCSI commands.
  static bool takes_commands(int descriptor);

  SgTransport(EventLoop& loop, FileDescriptor device, std::string name);

  const std::string& name() const override { return name_; }
  /// ECONNABORTED where the command may not have reached the disk, or its answer not us.
  Task<Result<scsi::Outcome>> execute(scsi::Command command, std::span<std::byte> data) override;
  /// SG_SCSI_RESET of the device, without escalation to its bus or host.
  Task<Result<>> reset_logical_unit() override;

 private:
  std::string name_;
  std::shared_ptr<FileDescriptor> device_;  ///< shared with calls whose frames were destroyed
  HelperThreads helper_;
};

}  // namespace corral
