#include "tools/mkfs_corral/signatures.h"

#include <cstring>
#include <memory>

#include <blkid/blkid.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file_descriptor.h"

namespace corral::mkfs {

namespace {

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};

/// A probe for everything libblkid knows.
class Probe {
 public:
  static Result<Probe> open(const std::string& path, int flags) {
    FileDescriptor file(::open(path.c_str(), flags | O_CLOEXEC));
    if (!file) return fail(errno, "cannot open {}: {}", path, std::strerror(errno));
    Handle probe(blkid_new_probe());
    if (!probe || blkid_probe_set_device(probe.get(), file.get(), 0, 0) != 0)
      return fail(EIO, "cannot look for other contents on {}", path);
    blkid_probe_enable_superblocks(probe.get(), 1);
    blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_MAGIC);
    blkid_probe_enable_partitions(probe.get(), 1);
    blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
    return Probe(std::move(file), std::move(probe));
  }

  /// Goes on to the next signature; false behind the last.
  bool next() { return blkid_do_probe(probe_.get()) == 0; }
  std::string value(const char* name) const {
    const char* text = nullptr;
    return blkid_probe_lookup_value(probe_.get(), name, &text, nullptr) == 0 && text != nullptr ? text : "";
  }
  bool wipe() { return blkid_do_wipe(probe_.get(), 0) == 0; }
  int descriptor() const { return file_.get(); }

 private:
  using Handle = std::unique_ptr<std::remove_pointer_t<blkid_probe>, FreeProbe>;
  Probe(FileDescriptor file, Handle probe) : file_(std::move(file)), probe_(std::move(probe)) {}

  FileDescriptor file_;
  Handle probe_;
};

std::string describe(const Probe& probe) {
  if (const std::string table = probe.value("PTTYPE"); !table.empty())
    return fmt::format("a partition table ({})", table);
  const std::string label = probe.value("LABEL");
  return label.empty() ? probe.value("TYPE") : fmt::format("{} (label: {})", probe.value("TYPE"), label);
}

}  // namespace

Result<std::vector<std::string>> find_signatures(const std::string& path) {
  TRY(auto probe, Probe::open(path, O_RDONLY));
  std::vector<std::string> found;
  while (probe.next()) {
    std::string text = describe(probe);
    // The copies that some keep are one thing to people.
    if (!text.empty() && (found.empty() || found.back() != text)) found.push_back(std::move(text));
  }
  return found;
}

Result<> wipe_signatures(const std::string& path) {
  TRY(auto probe, Probe::open(path, O_RDWR));
  bool partitions = false;
  while (probe.next()) {
    partitions = partitions || !probe.value("PTTYPE").empty();
    if (!probe.wipe()) return fail_device(EIO, "cannot erase {} on {}", describe(probe), path);
  }
  if (fsync(probe.descriptor()) != 0)
    return fail_device(errno, "cannot erase old contents of {}: {}", path, std::strerror(errno));
  // The kernel forgets the partitions; where it cannot, they merely stay listed until the next boot.
  if (partitions) ioctl(probe.descriptor(), BLKRRPART);
  return {};
}

}  // namespace corral::mkfs
