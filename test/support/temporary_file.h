/// An empty file with a name of its own, gone at the end of the test.
#pragma once

#include <cstdlib>
#include <string>

#include <unistd.h>

#include "base/check.h"

namespace corral {

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& folder = default_folder()) : path_(folder + "/corral-test-XXXXXX") {
    int descriptor = mkstemp(path_.data());
    CHECK_INVARIANT(descriptor >= 0);
    close(descriptor);
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  static std::string default_folder() {
    const char* folder = std::getenv("TMPDIR");
    return folder != nullptr ? folder : "/tmp";
  }
  std::string path_;
};

}  // namespace corral
