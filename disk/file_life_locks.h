/// Life locks on an image file; see life_locks.h.
#pragma once

#include <optional>
#include <string>

#include "disk/life_locks.h"

namespace corral {

class FileLifeLocks final : public LifeLocks {
 public:
  /// None for what is no regular file, or lies on a filesystem that other hosts may have mounted too: what they lock is
  /// not always known here. `descriptor` is that of all reads and writes, and stays open.
  static std::optional<FileLifeLocks> of(int descriptor, std::string name);

  Result<> take(std::uint64_t number) override;
  Result<> give_up(std::uint64_t number) override;
  Result<bool> taken_by_another(std::uint64_t number) const override;

 private:
  FileLifeLocks(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}
  int descriptor_;
  std::string name_;
};

}  // namespace corral
