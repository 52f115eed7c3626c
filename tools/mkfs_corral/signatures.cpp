#include "tools/mkfs_corral/signatures.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include <blkid/blkid.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/aligned_buffer.h"
#include "disk/open_device.h"

namespace corral::mkfs {

namespace {
/// Whatever libblkid looks for lies within this much of a device's start or end.
constexpr std::uint64_t kEndBytes = 2 << 20;

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};

/// A probe for everything libblkid knows.
class Probe {
 public:
  static Result<Probe> open(int file, const Device& device) {
    Handle probe(blkid_new_probe());
    if (!probe || blkid_probe_set_device(probe.get(), file, 0, 0) != 0)
      return fail(EIO, "cannot look for other contents on {}", device.name());
    blkid_probe_set_sectorsize(probe.get(), device.geometry().sector_bytes);
    blkid_probe_enable_superblocks(probe.get(), 1);
    blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_MAGIC);
    blkid_probe_enable_partitions(probe.get(), 1);
    blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
    return Probe(std::move(probe));
  }

  /// Goes on to the next signature; false behind the last.
  bool next() { return blkid_do_probe(probe_.get()) == 0; }
  std::string value(const char* name) const {
    const char* text = nullptr;
    return blkid_probe_lookup_value(probe_.get(), name, &text, nullptr) == 0 && text != nullptr ? text : "";
  }
  bool wipe() { return blkid_do_wipe(probe_.get(), 0) == 0; }

 private:
  using Handle = std::unique_ptr<std::remove_pointer_t<blkid_probe>, FreeProbe>;
  explicit Probe(Handle probe) : probe_(std::move(probe)) {}

  Handle probe_;
};

std::string describe(const Probe& probe) {
  if (const std::string table = probe.value("PTTYPE"); !table.empty())
    return fmt::format("a partition table ({})", table);
  const std::string label = probe.value("LABEL");
  return label.empty() ? probe.value("TYPE") : fmt::format("{} (label: {})", probe.value("TYPE"), label);
}

/// The kernel forgets the partitions of a block device; where it cannot, they merely stay listed until the next boot.
void forget_partitions(const std::string& name) {
  if (!names_path(name)) return;
  FileDescriptor file(open(name.c_str(), O_RDONLY | O_CLOEXEC));
  if (file) ioctl(file.get(), BLKRRPART);
}
}  // namespace

std::vector<Signatures::End> Signatures::ends_of(const DeviceGeometry& geometry) {
  if (geometry.size_bytes <= 2 * kEndBytes) return {{0, geometry.size_bytes}};
  return {{0, kEndBytes}, {geometry.size_bytes - kEndBytes, kEndBytes}};
}

Task<Result<Signatures>> Signatures::find(Device& device) {
  FileDescriptor file(memfd_create("signatures", MFD_CLOEXEC));
  if (!file || ftruncate(file.get(), static_cast<off_t>(device.geometry().size_bytes)) != 0)
    co_return fail(errno, "cannot look for other contents on {}: {}", device.name(), std::strerror(errno));
  Signatures signatures(std::move(file));
  for (End end : ends_of(device.geometry())) {
    AlignedBuffer buffer(end.length_bytes);
    CO_TRY_VOID(co_await device.read(end.offset_bytes, buffer.span()));
    ssize_t copied = pwrite(signatures.file_.get(), buffer.data(), buffer.size(), static_cast<off_t>(end.offset_bytes));
    if (copied != static_cast<ssize_t>(buffer.size()))
      co_return fail(ENOMEM, "no memory for parts of {}", device.name());
  }
  CO_TRY_VOID(signatures.recognise(device));
  co_return std::move(signatures);
}

Result<> Signatures::recognise(const Device& device) {
  TRY(auto probe, Probe::open(file_.get(), device));
  while (probe.next()) {
    std::string text = describe(probe);
    partitions_ = partitions_ || !probe.value("PTTYPE").empty();
    // The copies that some keep are one thing to people.
    if (!text.empty() && (found_.empty() || found_.back() != text)) found_.push_back(std::move(text));
  }
  return {};
}

Task<Result<>> Signatures::wipe(Device& device) {
  CO_TRY(auto probe, Probe::open(file_.get(), device));
  while (probe.next())
    if (!probe.wipe()) co_return fail(EIO, "cannot erase {} on {}", describe(probe), device.name());
  for (End end : ends_of(device.geometry())) {
    AlignedBuffer buffer(end.length_bytes);
    ssize_t copied = pread(file_.get(), buffer.data(), buffer.size(), static_cast<off_t>(end.offset_bytes));
    if (copied != static_cast<ssize_t>(buffer.size()))
      co_return fail(EIO, "cannot erase old contents of {}", device.name());
    CO_TRY_VOID(co_await device.write(end.offset_bytes, buffer.span(), WriteMode::cached));
  }
  CO_TRY_VOID(co_await device.flush());
  if (partitions_) forget_partitions(device.name());
  co_return Result<>{};
}

}  // namespace corral::mkfs
