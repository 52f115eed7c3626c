/// corral image save|restore: a volume's metadata as a file, for a bug report, and back.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "tools/image/restore_image.h"
#include "tools/image/save_image.h"

namespace corral {

/// Adds itself to the program; sets `status` when it has run: 0 done; 1 save: done, but not all could be read; 2 the
/// command line was wrong, or the answer was no; 5 the disk did not answer in time; 8 it could not be done.
class ImageCommand {
 public:
  ImageCommand(CLI::App& app, int& status);
  ImageCommand(const ImageCommand&) = delete;
  ImageCommand& operator=(const ImageCommand&) = delete;

 private:
  int save() const;
  int restore() const;
  bool confirmed() const;
  Result<image::Header> restore_to_file() const;
  Result<image::Header> restore_to_device() const;

  std::string device_;
  std::string file_;
  bool scan_ = false;
  bool contents_ = false;
  bool blank_ = false;
  bool yes_ = false;
  bool json_ = false;
};

}  // namespace corral
