/// A volume with nothing but resource groups, a journal and the system files that the allocator needs, laid out by hand
/// so that groups can be as small and odd as a test wants; and a mount of it up to the allocator.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <sys/stat.h>

#include "base/random.h"
#include "disk/simulated_device.h"
#include "fs/allocator.h"
#include "fs/bitmap.h"
#include "fs/inode.h"
#include "fs/volume.h"
#include "journal/journal.h"
#include "ondisk/checksum.h"
#include "test/support/manual_clock.h"
#include "test/support/simulated_volume.h"

namespace corral::test {

/// Where things are on the volume.
struct AllocatorLayout {
  struct Group {
    BlockNo address;
    std::uint32_t length = 0;
    BlockNo first;
    std::uint32_t blocks = 0;
  };
  std::vector<Group> groups;
  BlockNo rindex, statfs, statfs_change, quota, quota_change, journal;
  std::uint32_t journal_blocks = 0;
  std::uint32_t system_blocks = 0;  ///< used in the first group, dinodes included
  static constexpr std::uint32_t kSystemDinodes = 5;
};

/// Lays the volume out. The first group is the system's own, full of it but for 3 blocks at the most; `group_blocks`
/// are the others' sizes, multiples of 4.
class AllocatorImage {
 public:
  AllocatorImage(std::uint32_t block_size, std::vector<std::uint32_t> group_blocks, std::uint32_t journal_blocks = 512,
                 std::uint32_t quota_change_blocks = 2)
      : geometry(block_size), image(0) {
    layout.journal_blocks = journal_blocks;
    const std::uint32_t rindex_blocks = static_cast<std::uint32_t>(
        geometry.blocks_for((group_blocks.size() + 1) * sizeof(ondisk::ResourceGroupIndexEntry)));
    layout.system_blocks = AllocatorLayout::kSystemDinodes + rindex_blocks + quota_change_blocks + journal_blocks;
    group_blocks.insert(group_blocks.begin(), (layout.system_blocks + 3) / 4 * 4);
    BlockNo next = geometry.superblock() + 1;
    for (std::uint32_t blocks : group_blocks) {
      AllocatorLayout::Group group{next, bitmap_length(blocks), {}, blocks};
      group.first = next + group.length;
      layout.groups.push_back(group);
      next = group.first + blocks + 1;  // a block between groups that belongs to none
    }
    image = DiskImage(geometry.offset_bytes(next));
    for (std::size_t i = 0; i < layout.groups.size(); ++i)
      write_group(i);
    write_system_files(rindex_blocks, quota_change_blocks);
  }

  ondisk::Geometry geometry;
  DiskImage image;
  AllocatorLayout layout;

 private:
  std::uint32_t bitmap_length(std::uint32_t blocks) const {
    return static_cast<std::uint32_t>(geometry.rgrp_length(blocks / ondisk::kBlocksPerBitmapByte));
  }

  void write_block(BlockNo block, std::span<const std::byte> bytes) {
    image.write(geometry.offset_bytes(block), bytes);
  }

  void write_group(std::size_t index) {
    const auto& group = layout.groups[index];
    const std::uint32_t dinodes = index == 0 ? AllocatorLayout::kSystemDinodes : 0;
    const std::uint32_t used = index == 0 ? layout.system_blocks : 0;
    for (std::uint32_t i = 0; i < group.length; ++i) {
      std::vector<std::byte> bytes(geometry.block_size());
      ondisk::view<ondisk::MetaHeader>(std::span(bytes))
          .set(i == 0 ? ondisk::MetaType::resource_group : ondisk::MetaType::resource_group_bitmap);
      const std::size_t offset = ondisk::bitmap_offset(i);
      const std::uint32_t first =
          i == 0 ? 0 : static_cast<std::uint32_t>(geometry.rgrp_bitmap_bytes(i) * ondisk::kBlocksPerBitmapByte);
      const std::uint32_t here =
          std::min<std::uint32_t>(group.blocks - first, static_cast<std::uint32_t>(bytes.size() - offset) * 4);
      auto bitmap = std::span(bytes).subspan(offset, here / 4);
      for (std::uint32_t block = first; block < first + here && block < used; ++block)
        set_states(bitmap, block - first, 1, block < dinodes ? ondisk::BlockState::dinode : ondisk::BlockState::used);
      if (i == 0) {
        auto& header = ondisk::view<ondisk::ResourceGroup>(std::span(bytes));
        header.free = group.blocks - used;
        header.dinodes = dinodes;
        header.skip = index + 1 < layout.groups.size()
                          ? static_cast<std::uint32_t>(layout.groups[index + 1].address - group.address)
                          : 0;
        header.data0 = group.first.value;
        header.data = group.blocks;
        header.bitmap_bytes = group.blocks / 4;
        header.crc = ondisk::rgrp_crc(header);
      }
      write_block(group.address + i, bytes);
    }
  }

  std::vector<std::byte> dinode(BlockNo address, std::uint64_t size, std::uint32_t flags) {
    std::vector<std::byte> bytes(geometry.block_size());
    auto& dinode = ondisk::view<ondisk::Dinode>(std::span(bytes));
    dinode.header.set(ondisk::MetaType::dinode);
    dinode.num = {address.value, address.value};
    dinode.mode = S_IFREG | 0600;
    dinode.nlink = 1;
    dinode.size = size;
    dinode.blocks = 1;
    dinode.flags = flags | ondisk::kDinodeSystem;
    return bytes;
  }

  /// A file of height 1 over contiguous blocks.
  void write_file(BlockNo address, std::uint64_t size, BlockNo data) {
    auto bytes = dinode(address, size, ondisk::kDinodeJournaledData);
    auto& inode = ondisk::view<ondisk::Dinode>(std::span(bytes));
    const std::uint64_t count = geometry.blocks_for(size);
    inode.height = std::uint16_t{1};
    inode.blocks = 1 + count;
    auto pointers = ondisk::pointers(std::span(bytes), sizeof(ondisk::Dinode));
    for (std::uint64_t i = 0; i < count; ++i)
      pointers[i] = (data + i).value;
    write_block(address, bytes);
  }

  void write_system_files(std::uint32_t rindex_blocks, std::uint32_t quota_change_blocks) {
    BlockNo next = layout.groups.front().first;
    for (BlockNo* inode :
         {&layout.rindex, &layout.statfs, &layout.statfs_change, &layout.quota, &layout.quota_change}) {
      *inode = next;
      ++next;
    }
    std::vector<std::byte> entries(rindex_blocks * geometry.block_size());
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < layout.groups.size(); ++i) {
      const auto& group = layout.groups[i];
      auto& entry = ondisk::view<ondisk::ResourceGroupIndexEntry>(std::span(entries),
                                                                  i * sizeof(ondisk::ResourceGroupIndexEntry));
      entry.addr = group.address.value;
      entry.length = group.length;
      entry.data0 = group.first.value;
      entry.data = group.blocks;
      entry.bitmap_bytes = group.blocks / 4;
      total += group.blocks;
    }
    image.write(geometry.offset_bytes(next), entries);
    write_file(layout.rindex, layout.groups.size() * sizeof(ondisk::ResourceGroupIndexEntry), next);
    next += rindex_blocks;

    auto statfs = dinode(layout.statfs, sizeof(ondisk::StatfsChange), 0);
    auto& counts = ondisk::view<ondisk::StatfsChange>(std::span(statfs), sizeof(ondisk::Dinode));
    counts.total = total;
    counts.free = total - layout.system_blocks;
    counts.dinodes = AllocatorLayout::kSystemDinodes;
    write_block(layout.statfs, statfs);
    write_block(layout.statfs_change, dinode(layout.statfs_change, sizeof(ondisk::StatfsChange), 0));
    write_block(layout.quota, dinode(layout.quota, 2 * sizeof(ondisk::Quota), ondisk::kDinodeJournaledData));

    write_file(layout.quota_change, std::uint64_t{quota_change_blocks} << geometry.block_shift(), next);
    for (std::uint32_t i = 0; i < quota_change_blocks; ++i, ++next) {
      std::vector<std::byte> bytes(geometry.block_size());
      ondisk::view<ondisk::MetaHeader>(std::span(bytes)).set(ondisk::MetaType::quota_change);
      write_block(next, bytes);
    }
    layout.journal = next;
  }
};

/// The volume mounted as far as the allocator goes.
struct AllocatorMount {
  AllocatorMount(SimulatedVolume& where, const AllocatorImage& image, MountOptions mount_options = {})
      : AllocatorMount(where, image, std::move(mount_options), where.device) {}
  AllocatorMount(SimulatedVolume& where, const AllocatorImage& image, MountOptions mount_options, Device& device)
      : under(where),
        layout(image.layout),
        options(std::move(mount_options)),
        geometry(image.geometry),
        cache(where.executor, device, geometry, options.cache_bytes),
        glocks(where.executor),
        volume{.executor = where.executor,
               .clock = where.clock,
               .device = device,
               .log = Logger(where.log),
               .options = options,
               .geometry = geometry,
               .cache = cache,
               .glocks = glocks,
               .random = Random(1),
               .withdraw_reason = {},
               .on_withdraw = {}},
        inodes(volume) {
    JournalMap map;
    map.append(layout.journal, layout.journal_blocks);
    Journal::Options journal_options;
    journal_options.commit_interval = std::chrono::hours(24 * 365);
    journal_options.header_extras = [this] { return allocator->header_extras(); };
    journal_options.on_commit = [this] { allocator->note_commit(); };
    journal = std::make_unique<Journal>(where.executor, cache, map, std::move(journal_options), Logger(where.log));
    journal->start();
    volume.journal = journal.get();
    allocator = std::make_unique<Allocator>(volume);
  }

  Task<Result<>> open() {
    Allocator::SystemFiles files;
    CO_TRY(files.rindex, inodes.get(layout.rindex, layout.rindex.value));
    CO_TRY(files.statfs, inodes.get(layout.statfs, layout.statfs.value));
    CO_TRY(files.statfs_change, inodes.get(layout.statfs_change, layout.statfs_change.value));
    CO_TRY(files.quota, inodes.get(layout.quota, layout.quota.value));
    CO_TRY(files.quota_change, inodes.get(layout.quota_change, layout.quota_change.value));
    co_return co_await allocator->open(std::move(files));
  }

  /// Everything in its place on the device; nothing may be called afterwards.
  Task<Result<>> unmount() {
    CO_TRY_VOID(co_await allocator->sync_quota());
    CO_TRY_VOID(co_await allocator->sync_statfs());
    CO_TRY_VOID(co_await journal->shut_down(true));
    co_await close();
    co_return Result<>{};
  }
  Task<void> close() {
    co_await allocator->close();
    volume.journal = nullptr;
    journal = nullptr;
    cache.discard_all();
    inodes.discard_all();
  }

  SimulatedVolume& under;
  AllocatorLayout layout;
  MountOptions options;
  ondisk::Geometry geometry;
  BlockCache cache;
  GlockTable glocks;
  Volume volume;
  InodeTable inodes;
  std::unique_ptr<Journal> journal;
  std::unique_ptr<Allocator> allocator;
};

}  // namespace corral::test
