/// Dirty file data of the whole mount: how much there is, when it is written in the background, and the writes.
///
/// Background writing begins for an inode with a long stretch of finished chunks, for the oldest inodes when half the
/// limit is reached or there are very many of them, and for what has grown old. At the limit, writers wait.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "base/result.h"
#include "base/sync.h"
#include "base/task.h"
#include "fs/data_buffers.h"
#include "fs/dirty_data.h"
#include "fs/volume.h"

namespace corral {

class WriteOut {
 public:
  WriteOut(Volume& volume, std::uint64_t limit_bytes);
  /// Forgets what was not written.
  ~WriteOut();

  Volume& volume() { return volume_; }
  DataBuffers& buffers() { return buffers_; }
  std::uint32_t block_size() const { return volume_.geometry.block_size(); }
  /// Dirty data of an inode, made if there is none.
  DirtyData& of(Inode& inode);

  /// Waits until there is room for more dirty data. EIO if there is none because nothing can be written.
  Task<Result<>> make_room();
  /// To be called after data was added: begins background writing where it is due.
  void data_added(DirtyData& dirty);
  /// Writes what is dirty now, of all inodes; the first error.
  Task<Result<>> write_back_all();
  /// Waiting and being written.
  std::uint64_t dirty_bytes() const { return dirty_bytes_; }

  /// One device write carries at most this much.
  static constexpr std::uint64_t kWriteBytes = 4u << 20;
  static constexpr std::size_t kWriteSpans = 512;
  /// What a write of zeros is made of.
  std::span<const std::byte> zeros() const { return zeros_.span(); }

 private:
  friend class DirtyData;
  using DirtyList = boost::intrusive::list<DirtyData, boost::intrusive::constant_time_size<false>>;

  void spawn_write(DirtyData& dirty, FileRange range, std::uint64_t bytes);
  Task<void> write(DirtyData& dirty, FileRange range, std::uint64_t bytes);
  Result<> may_write() const;
  Task<void> write_aged();
  void relieve();
  void start_all();
  std::vector<std::shared_ptr<DirtyData>> all_dirty();
  /// Dirty bytes whose writing has not begun.
  std::uint64_t idle_bytes() const { return dirty_bytes_ - in_flight_bytes_; }

  Volume& volume_;
  std::uint64_t limit_bytes_;
  std::uint64_t relieve_at_bytes_;  ///< idle bytes at which relieve() does something
  DataBuffers buffers_;
  AlignedBuffer zeros_;
  DirtyList dirty_;  ///< inodes with dirty data, the earliest to become so first
  std::uint64_t dirty_bytes_ = 0;
  std::uint64_t in_flight_bytes_ = 0;
  std::uint64_t waiting_inodes_ = 0;  ///< with data whose writing has not begun
  std::uint64_t next_number_ = 1;
  bool aging_ = false;
  Semaphore slots_;
  Signal progress_;
  Scope tasks_;
};

}  // namespace corral
