/// A SCSI target of the test's own: tgtd on a free port of 127.0.0.1, with a control socket of its own, and one disk in
/// an image file. Ends with the test.
#pragma once

#include <cstdint>
#include <string>

#include <sys/types.h>

#include "test/support/temporary_file.h"

namespace corral::test {

class TgtTarget {
 public:
  static constexpr const char* kName = "iqn.2026-11.corral.test:disk";

  struct Options {
    std::uint64_t size_bytes = 64 << 20;
    bool thin = false;             ///< takes UNMAP
    std::string user{}, secret{};  ///< CHAP; empty: everybody may log in
  };
  /// Why it cannot be run here, or nothing.
  static std::string why_not();

  TgtTarget() : TgtTarget(Options{}) {}
  explicit TgtTarget(Options options);
  ~TgtTarget();
  TgtTarget(const TgtTarget&) = delete;
  TgtTarget& operator=(const TgtTarget&) = delete;

  /// Kills it, connections and registrations with it; what it acknowledged is in the image.
  void stop();
  void start();
  std::uint16_t port() const { return port_; }
  const std::string& image() const { return image_.path(); }
  /// iscsi:// name of the disk, by way of another port where one is given.
  std::string url(const std::string& options = {}, std::uint16_t port = 0, int lun = 1) const;

 private:
  void administer(const std::string& arguments) const;

  Options options_;
  TemporaryFile image_;
  std::uint16_t port_;
  int control_;
  pid_t process_ = -1;
};

/// A port of 127.0.0.1 that nobody uses right now.
std::uint16_t free_port();

}  // namespace corral::test

/// For the start of a test that needs a target: skips it, with a word, where there can be none.
#define NEED_TGT()                                                          \
  if (std::string why = corral::test::TgtTarget::why_not(); !why.empty()) { \
    WARN("SKIPPED: " << why);                                               \
    return;                                                                 \
  }
