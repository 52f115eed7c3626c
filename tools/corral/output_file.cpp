#include "tools/corral/output_file.h"

#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace corral {

namespace {
/// Whether the path still leads to the open file.
bool is_at(const std::string& path, int descriptor) {
  struct stat named{};
  struct stat opened{};
  return stat(path.c_str(), &named) == 0 && fstat(descriptor, &opened) == 0 && named.st_dev == opened.st_dev &&
         named.st_ino == opened.st_ino;
}
}  // namespace

Result<OutputFile> OutputFile::create(const std::string& name) {
  if (name == "-") return OutputFile("standard output", "", FileDescriptor(), true);
  // Giving the file its name takes that from what has it: no device is to be lost that way.
  struct stat present{};
  if (stat(name.c_str(), &present) == 0 && !S_ISREG(present.st_mode))
    return fail(EINVAL, "{}: is there, and no file; - is standard output", name);
  const std::string path = name + ".partial";
  // Truncated only once it is locked: another process may be writing it.
  FileDescriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return fail(errno, "{}: {}", path, std::strerror(errno));
  // It may have got its name between opening and locking: then it is whole, and not ours to truncate.
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0 || !is_at(path, file.get()))
    return fail(EBUSY, "{}: another process writes it", path);
  if (ftruncate(file.get(), 0) != 0) return fail(errno, "{}: {}", path, std::strerror(errno));
  // A volume's names are not everybody's business: the file is its owner's, unless the caller opens it to others.
  return OutputFile(name, path, std::move(file), false);
}

OutputFile::~OutputFile() {
  if (file_ && !path_.empty()) unlink(path_.c_str());
}

Result<> OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(errno, "{}: {}", name_, std::strerror(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

Result<> OutputFile::finish() {
  if (standard_output_) return {};
  if (fsync(file_.get()) != 0 || rename(path_.c_str(), name_.c_str()) != 0)
    return fail(errno, "{}: {}", name_, std::strerror(errno));
  path_.clear();
  return {};
}

}  // namespace corral
