/// The kernel's FUSE protocol (linux/fuse.h), with what headers older than the running kernel lack.
///
/// Corral speaks it directly. libfuse would add a copy and an allocation to each request, answers DESTROY before the
/// volume is written back, and its versions of Debian 12 and 13 lack what a disk filesystem needs: KILLPRIV_V2 (else
/// each write(2) costs a GETXATTR of its own), TMPFILE, SYNCFS, and SETXATTR's flag to clear setgid.
#pragma once

#include <cstdint>

#include <linux/fuse.h>

namespace corral::protocol {

/// The protocol that the front was written for; the kernel lowers its own to it.
constexpr std::uint32_t kMajor = 7;
constexpr std::uint32_t kMinor = 38;
static_assert(FUSE_KERNEL_VERSION == kMajor && FUSE_KERNEL_MINOR_VERSION >= kMinor);

/// Later than 7.38. FUSE_DIRECT_IO_ALLOW_MMAP (7.39): files opened with FOPEN_DIRECT_IO can be mapped shared.
constexpr std::uint64_t kDirectIoAllowMmap = std::uint64_t{1} << 36;
constexpr std::uint32_t kStatx = 52;            ///< FUSE_STATX (7.39)
constexpr std::uint32_t kCopyFileRange64 = 53;  ///< FUSE_COPY_FILE_RANGE_64 (7.45)

/// Notifications later than 7.38. 7.44: every name that the kernel knows is asked for again. 7.45: unused nodes are let
/// go; the structure is followed by `count` node numbers.
constexpr int kNotifyIncrementEpoch = 8;
constexpr int kNotifyPrune = 9;
struct NotifyPrune {
  std::uint32_t count;
  std::uint32_t padding;
  std::uint64_t spare;
};
constexpr std::uint32_t kMinorOfPrune = 45;

/// Opcodes are small and dense; counters and handlers are arrays of this size.
constexpr std::uint32_t kOpcodes = 64;
/// "LOOKUP", "WRITE", ...; null for opcodes that the front does not know.
const char* opcode_name(std::uint32_t opcode);

}  // namespace corral::protocol
