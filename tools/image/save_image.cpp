#include "tools/image/save_image.h"

#include <algorithm>
#include <set>
#include <vector>

#include "ondisk/geometry.h"
#include "ondisk/validate.h"
#include "tools/image/metadata_selection.h"
#include "tools/image/readable_device.h"

namespace corral::image {

using namespace ondisk;

namespace {

constexpr std::uint64_t kReadBytes = 1 << 20;
/// Reading so many blocks for nothing takes less time than another read.
constexpr std::uint64_t kGapBlocks = 16;

class Saving {
 public:
  Saving(ReadableDevice& device, const Selection& selection, const SaveOptions& options, ImageWriter& writer)
      : device_(device),
        selection_(selection),
        options_(options),
        writer_(writer),
        geometry_(selection.superblock.block_size),
        volume_blocks_(device.geometry().size_bytes >> geometry_.block_shift()),
        buffer_(std::max<std::size_t>(kReadBytes, geometry_.block_size()), false) {}

  Task<Result<>> run();
  std::uint64_t unreadable() const { return unreadable_; }

 private:
  std::vector<BlockNo> next_run(BlockNo from) const;
  Result<> save(BlockNo block, std::span<std::byte> bytes);
  void note_attributes(BlockNo block, std::span<const std::byte> bytes);
  Task<Result<>> save_refused();
  void filter(BlockNo block, std::span<std::byte> bytes) const;

  ReadableDevice& device_;
  const Selection& selection_;
  const SaveOptions& options_;
  ImageWriter& writer_;
  Geometry geometry_;
  std::uint64_t volume_blocks_;
  AlignedBuffer buffer_;
  std::uint64_t unreadable_ = 0;
  /// What dinodes take for their extended attributes, and the selection does not: what is wrong with it is to be seen.
  std::set<BlockNo> refused_;
};

/// Blocks to be saved that are best read in one go.
std::vector<BlockNo> Saving::next_run(BlockNo from) const {
  std::vector<BlockNo> run;
  const std::uint64_t most = std::max<std::uint64_t>(1, kReadBytes >> geometry_.block_shift());
  for (auto block = selection_.blocks.next(from); block && block->value < volume_blocks_;
       block = selection_.blocks.next(*block + 1)) {
    if (!run.empty() && (*block - run.back() > kGapBlocks || *block - run.front() >= most)) break;
    run.push_back(*block);
  }
  return run;
}

void Saving::filter(BlockNo block, std::span<std::byte> bytes) const {
  if (looks_like_metadata(bytes)) {
    // In a journal a dinode stands elsewhere than where it says.
    const BlockNo inode(has_meta_type(bytes, MetaType::dinode) ? view<Dinode>(bytes).num.addr.value() : block.value);
    filter_metadata(bytes, block, selection_.system.contains(inode) || selection_.system.contains(block),
                    options_.filter);
  } else if (selection_.journals.contains(block)) {
    // Logged data of users' files; what is logged of metadata begins with the magic number.
    if (!options_.filter.keep_contents && !selection_.log_of_metadata.contains(block))
      std::ranges::fill(bytes, std::byte{0});
  } else if (!selection_.whole.contains(block)) {
    // Something takes it for metadata, and is wrong: it may be a user's data. The header shows what was found.
    std::ranges::fill(bytes.subspan(sizeof(MetaHeader)), std::byte{0});
  }
  remove_secret(bytes);
}

void Saving::note_attributes(BlockNo block, std::span<const std::byte> bytes) {
  const auto& dinode = view<Dinode>(bytes);
  if (!has_meta_type(bytes, MetaType::dinode) || dinode.num.addr != block.value) return;
  const BlockNo attributes(dinode.eattr);
  if (attributes && attributes.value < volume_blocks_ && !selection_.blocks.contains(attributes))
    refused_.insert(attributes);
}

Task<Result<>> Saving::save_refused() {
  const std::span<std::byte> bytes = buffer_.span().first(geometry_.block_size());
  for (const BlockNo block : refused_) {
    CO_TRY_VOID(co_await device_.read(geometry_.offset_bytes(block), bytes));
    CO_TRY_VOID(save(block, bytes));
  }
  co_return Result<>{};
}

Result<> Saving::save(BlockNo block, std::span<std::byte> bytes) {
  if (device_.lacks(geometry_.offset_bytes(block), geometry_.block_size())) ++unreadable_;
  filter(block, bytes);
  return writer_.add(block, bytes);
}

Task<Result<>> Saving::run() {
  std::uint64_t done = 0;
  for (BlockNo from;;) {
    const std::vector<BlockNo> run = next_run(from);
    if (run.empty()) co_return co_await save_refused();
    const BlockNo first = run.front();
    const std::uint64_t bytes = (run.back() - first + 1) << geometry_.block_shift();
    CO_TRY_VOID(co_await device_.read(geometry_.offset_bytes(first), buffer_.span().first(bytes)));
    for (const BlockNo block : run) {
      const auto part = buffer_.span().subspan((block - first) << geometry_.block_shift(), geometry_.block_size());
      note_attributes(block, part);
      CO_TRY_VOID(save(block, part));
    }
    done += run.size();
    if (options_.progress) options_.progress("saving", done, selection_.blocks.size());
    from = run.back() + 1;
  }
}

}  // namespace

Task<Result<SaveReport>> save_metadata(Executor& executor, Device& device, SaveOptions options,
                                       ImageWriter::Sink sink) {
  ReadableDevice readable(device);
  CO_TRY(const Selection selection,
         co_await select_metadata(executor, readable, {.scan = options.scan, .progress = options.progress}));
  const Header header{.block_size = selection.superblock.block_size,
                      .device_bytes = device.geometry().size_bytes,
                      .saved_at_seconds = options.now_seconds,
                      .nodes_lived = options.nodes_lived,
                      .contents_kept = options.filter.keep_contents,
                      .blanked = options.filter.blank};
  ImageWriter writer(std::move(sink), header);
  CO_TRY_VOID(writer.begin());
  Saving saving(readable, selection, options, writer);
  CO_TRY_VOID(co_await saving.run());
  CO_TRY_VOID(writer.end(saving.unreadable()));
  co_return SaveReport{.block_size = header.block_size,
                       .device_bytes = header.device_bytes,
                       .blocks = writer.blocks(),
                       .inodes = selection.inodes,
                       .image_bytes = writer.bytes_written(),
                       .unreadable = saving.unreadable(),
                       .findings = selection.findings};
}

}  // namespace corral::image
