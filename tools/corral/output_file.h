/// A file that is there once it is whole.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/file_descriptor.h"
#include "base/result.h"

namespace corral {

/// Written as NAME.partial, which finish() gives its name; without that it is removed. A process that is killed leaves
/// NAME.partial behind, and the next one begins it anew.
class OutputFile {
 public:
  /// "-" is standard output, which has neither. EBUSY where another process writes the file; EINVAL where the name is
  /// that of something else than a file.
  static Result<OutputFile> create(const std::string& name);
  OutputFile(OutputFile&&) = default;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  /// Where it is until then.
  const std::string& path() const { return path_; }
  int descriptor() const { return standard_output_ ? 1 : file_.get(); }
  Result<> write(std::span<const std::byte> bytes);
  /// Makes it stable and gives it its name.
  Result<> finish();

 private:
  OutputFile(std::string name, std::string path, FileDescriptor file, bool standard_output)
      : name_(std::move(name)), path_(std::move(path)), file_(std::move(file)), standard_output_(standard_output) {}

  std::string name_;
  std::string path_;
  FileDescriptor file_;
  bool standard_output_;
};

}  // namespace corral
