/// A disk in memory without faults: every operation completes after one turn of the executor.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "disk/device.h"

namespace corral {

class MemoryDevice final : public Device {
 public:
  MemoryDevice(Executor& executor, std::uint64_t size_bytes) : executor_(executor), bytes_(size_bytes) {
    geometry_.size_bytes = size_bytes;
  }

  const std::string& name() const override { return name_; }
  const DeviceGeometry& geometry() const override { return geometry_; }
  std::vector<std::byte>& bytes() { return bytes_; }
  /// While true every write and flush fails with EIO.
  bool failing = false;
  std::uint64_t writes = 0;
  std::uint64_t flushes = 0;

  using Device::read;
  using Device::write;

  Task<Result<>> read(std::uint64_t offset, std::span<const ReadSpan> spans) override {
    co_await executor_.yield();
    for (ReadSpan span : spans) {
      if (offset + span.size() > bytes_.size()) co_return fail_device(EINVAL, "memory: read past the end");
      std::memcpy(span.data(), bytes_.data() + offset, span.size());
      offset += span.size();
    }
    co_return Result<>{};
  }
  Task<Result<>> write(std::uint64_t offset, std::span<const WriteSpan> spans, WriteMode) override {
    co_await executor_.yield();
    if (failing) co_return fail_device(EIO, "memory: told to fail");
    ++writes;
    for (WriteSpan span : spans) {
      if (offset + span.size() > bytes_.size()) co_return fail_device(ENOSPC, "memory: write past the end");
      std::memcpy(bytes_.data() + offset, span.data(), span.size());
      offset += span.size();
    }
    co_return Result<>{};
  }
  Task<Result<>> flush() override {
    co_await executor_.yield();
    if (failing) co_return fail_device(EIO, "memory: told to fail");
    ++flushes;
    co_return Result<>{};
  }
  Task<Result<>> discard(std::uint64_t, std::uint64_t) override { co_return fail(EOPNOTSUPP); }

 private:
  Executor& executor_;
  std::vector<std::byte> bytes_;
  DeviceGeometry geometry_;
  std::string name_ = "memory";
};

}  // namespace corral
