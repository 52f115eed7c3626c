/// A small volume that is nothing but a journal of two extents and two statfs files, and a writer of logs into it.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include "journal/replay.h"
#include "ondisk/checksum.h"
#include "ondisk/layout.h"
#include "test/support/simulated_volume.h"

namespace corral::test {

/// Blocks of the volume and their places; the journal's blocks are neither contiguous nor in disk order.
class TestJournal {
 public:
  static constexpr std::uint32_t kBlockBytes = 1024;
  static constexpr std::uint64_t kVolumeBlocks = 4096;
  static constexpr std::uint32_t kJournalBlocks = 64;
  static constexpr BlockNo kMasterStatfs{300};
  static constexpr BlockNo kLocalStatfs{301};
  static constexpr BlockNo kJournalInode{99};
  using Block = std::vector<std::byte>;

  TestJournal() : image(kVolumeBlocks * kBlockBytes) {
    map.append(BlockNo(200), 40);
    map.append(BlockNo(100), 24);
    put_statfs(kMasterStatfs, {1000, 500, 100});
    put_statfs(kLocalStatfs, {0, 0, 0});
  }

  /// The metadata block's contents in a given version.
  static Block metadata(std::uint64_t version) {
    Block block(kBlockBytes);
    ondisk::view<ondisk::MetaHeader>(block).set(ondisk::MetaType::dinode);
    std::memcpy(block.data() + 100, &version, sizeof(version));
    return block;
  }
  static Block file_data(std::uint64_t version) {
    Block block(kBlockBytes, std::byte{0x5A});
    std::memcpy(block.data() + 100, &version, sizeof(version));
    return block;
  }
  static Block data_that_looks_like_metadata(std::uint64_t version) {
    Block block = file_data(version);
    ondisk::view<ondisk::be32>(block) = ondisk::kMagic;
    return block;
  }

  Block at(BlockNo place) const { return read(image, place); }
  static Block read(const DiskImage& from, BlockNo place) {
    Block block(kBlockBytes);
    from.read(place.value * kBlockBytes, block);
    return block;
  }
  void put(BlockNo place, std::span<const std::byte> block) { image.write(place.value * kBlockBytes, block); }
  Block log_block(std::uint32_t journal_block) const { return at(map.block_at(journal_block)); }
  void put_log_block(std::uint32_t journal_block, std::span<const std::byte> block) {
    put(map.block_at(journal_block), block);
  }

  using Statfs = std::array<std::int64_t, 3>;
  static Statfs statfs(const DiskImage& from, BlockNo place) {
    const Block block = read(from, place);
    const auto& change = ondisk::view<ondisk::StatfsChange>(block, sizeof(ondisk::Dinode));
    return {static_cast<std::int64_t>(change.total.value()), static_cast<std::int64_t>(change.free.value()),
            static_cast<std::int64_t>(change.dinodes.value())};
  }
  void put_statfs(BlockNo place, Statfs values) { put(place, statfs_block(place, values)); }
  static Block statfs_block(BlockNo place, Statfs values) {
    Block block(kBlockBytes);
    auto& dinode = ondisk::view<ondisk::Dinode>(block);
    dinode.header.set(ondisk::MetaType::dinode);
    dinode.num = {place.value, place.value};
    dinode.mode = static_cast<std::uint32_t>(S_IFREG | 0600);
    dinode.nlink = 1u;
    dinode.size = sizeof(ondisk::StatfsChange);
    dinode.flags = ondisk::kDinodeSystem | ondisk::kDinodeJournaledData;
    ondisk::view<ondisk::StatfsChange>(block, sizeof(ondisk::Dinode)) = {static_cast<std::uint64_t>(values[0]),
                                                                         static_cast<std::uint64_t>(values[1]),
                                                                         static_cast<std::uint64_t>(values[2])};
    return block;
  }

  /// Where the next block of the log goes, and the sequence of the next header.
  std::uint32_t position = 0;
  std::uint64_t sequence = 1000;

  void append(std::span<const std::byte> block) {
    put_log_block(position, block);
    position = (position + 1) % kJournalBlocks;
  }
  using Logged = std::initializer_list<std::pair<std::uint64_t, Block>>;
  void log_metadata(Logged blocks) { log(ondisk::LogDescriptorType::metadata, blocks); }
  void log_data(Logged blocks) { log(ondisk::LogDescriptorType::journaled_data, blocks); }
  void log_revokes(const std::vector<std::uint64_t>& numbers) {
    const std::size_t first = (kBlockBytes - sizeof(ondisk::LogDescriptor)) / 8;
    const std::size_t next = (kBlockBytes - sizeof(ondisk::MetaHeader)) / 8;
    const std::size_t more = numbers.size() <= first ? 0 : (numbers.size() - first + next - 1) / next;
    Block block = descriptor(ondisk::LogDescriptorType::revoke, more + 1, numbers.size());
    std::size_t header = sizeof(ondisk::LogDescriptor);
    for (std::size_t done = 0; done < numbers.size();) {
      auto places = ondisk::pointers(std::span(block), header);
      for (std::size_t i = 0; i < places.size() && done < numbers.size(); ++i)
        places[i] = numbers[done++];
      append(block);
      block = Block(kBlockBytes);
      ondisk::view<ondisk::MetaHeader>(block).set(ondisk::MetaType::log_block);
      header = sizeof(ondisk::MetaHeader);
    }
  }
  static Block descriptor(ondisk::LogDescriptorType type, std::size_t length, std::size_t entries) {
    Block block(kBlockBytes);
    auto& fields = ondisk::view<ondisk::LogDescriptor>(block);
    fields.header.set(ondisk::MetaType::log_descriptor);
    fields.type = static_cast<std::uint32_t>(type);
    fields.length = static_cast<std::uint32_t>(length);
    fields.data1 = static_cast<std::uint32_t>(entries);
    return block;
  }
  /// Ends a transaction; returns the journal block of the header.
  std::uint32_t log_header(std::uint32_t tail, std::uint32_t flags = 0, Statfs change = {}) {
    const std::uint32_t place = position;
    append(header(place, sequence++, tail, flags, change));
    return place;
  }
  static Block header(std::uint32_t place, std::uint64_t sequence, std::uint32_t tail, std::uint32_t flags = 0,
                      Statfs change = {}) {
    Block block(kBlockBytes);
    auto& fields = ondisk::view<ondisk::LogHeader>(block);
    fields.header.set(ondisk::MetaType::log_header);
    fields.sequence = sequence;
    fields.flags = flags;
    fields.tail = tail;
    fields.block_number = place;
    fields.local_total = static_cast<std::uint64_t>(change[0]);
    fields.local_free = static_cast<std::uint64_t>(change[1]);
    fields.local_dinodes = static_cast<std::uint64_t>(change[2]);
    seal(block);
    return block;
  }
  /// Puts a changed header's checksums right.
  static void seal(std::span<std::byte> block) {
    auto& fields = ondisk::view<ondisk::LogHeader>(block);
    fields.hash = ondisk::log_header_hash(fields);
    fields.crc = ondisk::log_header_crc(block);
  }
  /// Every block a clean header, as mkfs leaves a journal, the newest one at `newest`.
  void fill_as_mkfs(std::uint32_t newest) {
    for (std::uint32_t i = 0; i < kJournalBlocks; ++i) {
      const std::uint32_t place = (newest + 1 + i) % kJournalBlocks;
      put_log_block(place, header(place, i, 0, ondisk::kLogHeadUnmount | ondisk::kLogHeadUserspace));
    }
    position = (newest + 1) % kJournalBlocks;
    sequence = kJournalBlocks;
  }

  JournalAccess access(SimulatedVolume& bench) const { return {bench.executor, bench.device, geometry, map}; }
  ReplayJob job(SimulatedVolume& bench) const {
    return {.journal = access(bench),
            .id = JournalId(3),
            .inode = kJournalInode,
            .volume_blocks = kVolumeBlocks,
            .journals = std::span(&map, 1),
            .local_statfs = kLocalStatfs,
            .log = Logger(bench.log)};
  }

  DiskImage image;
  JournalMap map;
  ondisk::Geometry geometry{kBlockBytes};

 private:
  void log(ondisk::LogDescriptorType type, Logged blocks) {
    const bool data = type == ondisk::LogDescriptorType::journaled_data;
    Block block = descriptor(type, blocks.size() + 1, blocks.size());
    auto numbers = ondisk::pointers(std::span(block), sizeof(ondisk::LogDescriptor));
    std::size_t i = 0;
    for (const auto& [number, contents] : blocks) {
      numbers[i++] = number;
      if (data) numbers[i++] = ondisk::view<ondisk::be32>(contents) == ondisk::kMagic ? 1u : 0u;
    }
    append(block);
    for (const auto& [number, contents] : blocks) {
      Block logged = contents;
      if (data && ondisk::view<ondisk::be32>(logged) == ondisk::kMagic) ondisk::view<ondisk::be32>(logged) = 0u;
      append(logged);
    }
  }
};

}  // namespace corral::test
