#include "tools/corral/output_file.h"

#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace corral {

Result<OutputFile> OutputFile::create(const std::string& name) {
  if (name == "-") return OutputFile("standard output", "", FileDescriptor(), true);
  const std::string path = name + ".partial";
  // Truncated only once it is locked: another process may be writing it.
  FileDescriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return fail(errno, "{}: {}", path, std::strerror(errno));
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) return fail(EBUSY, "{}: another process writes it", path);
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
