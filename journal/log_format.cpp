#include "journal/log_format.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "ondisk/checksum.h"

namespace corral {

using namespace ondisk;

namespace {

constexpr std::size_t kMaxSpansPerWrite = 256;

std::uint32_t divide_up(std::size_t n, std::size_t d) {
  return static_cast<std::uint32_t>((n + d - 1) / d);
}

std::size_t metadata_per_descriptor(const Geometry& geometry) {
  return (geometry.block_size() - sizeof(LogDescriptor)) / 8;
}
std::size_t data_per_descriptor(const Geometry& geometry) {
  return (geometry.block_size() - sizeof(LogDescriptor)) / 16;
}
std::size_t revokes_in_first(const Geometry& geometry) {
  return metadata_per_descriptor(geometry);
}
std::size_t revokes_in_next(const Geometry& geometry) {
  return (geometry.block_size() - sizeof(MetaHeader)) / 8;
}

std::uint32_t revoke_blocks(const Geometry& geometry, std::size_t revokes) {
  if (revokes == 0) return 0;
  std::size_t first = std::min(revokes, revokes_in_first(geometry));
  return 1 + divide_up(revokes - first, revokes_in_next(geometry));
}

/// The blocks of one set in log order. Own blocks (descriptors, escaped copies) are kept alive here.
class LogImage {
 public:
  explicit LogImage(const Geometry& geometry) : geometry_(geometry) {}

  void add_states(std::span<const LoggedState> states, bool journaled_data) {
    std::size_t capacity = journaled_data ? data_per_descriptor(geometry_) : metadata_per_descriptor(geometry_);
    for (std::size_t i = 0; i < states.size(); i += capacity) {
      add_chunk(states.subspan(i, std::min(capacity, states.size() - i)), journaled_data);
    }
  }

  void add_revokes(std::span<const BlockNo> revokes) {
    if (revokes.empty()) return;
    std::span<std::byte> block = append(own_block());
    set_descriptor(block, LogDescriptorType::revoke, revoke_blocks(geometry_, revokes.size()), revokes.size());
    std::size_t used = fill_numbers(block, sizeof(LogDescriptor), revokes);
    while (used < revokes.size()) {
      block = append(own_block());
      view<MetaHeader>(block).set(MetaType::log_block);
      used += fill_numbers(block, sizeof(MetaHeader), revokes.subspan(used));
    }
  }

  const std::vector<WriteSpan>& blocks() const { return blocks_; }

 private:
  void add_chunk(std::span<const LoggedState> states, bool journaled_data) {
    std::span<std::byte> descriptor = append(own_block());
    set_descriptor(descriptor, journaled_data ? LogDescriptorType::journaled_data : LogDescriptorType::metadata,
                   static_cast<std::uint32_t>(states.size() + 1), states.size());
    auto numbers = pointers(descriptor, sizeof(LogDescriptor));
    for (std::size_t i = 0; i < states.size(); ++i) {
      std::span<const std::byte> bytes = states[i].state->buffer.span();
      if (journaled_data) {
        bool escaped = view<be32>(bytes) == kMagic;
        numbers[2 * i] = states[i].block->number().value;
        numbers[2 * i + 1] = escaped ? 1u : 0u;
        blocks_.push_back(escaped ? escaped_copy(bytes) : bytes);
      } else {
        numbers[i] = states[i].block->number().value;
        blocks_.push_back(bytes);
      }
    }
  }

  WriteSpan escaped_copy(std::span<const std::byte> bytes) {
    std::span<std::byte> copy = own_block();
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    view<be32>(copy) = 0;
    return copy;
  }

  /// A new block of our own; append() gives it its place in the log.
  std::span<std::byte> own_block() {
    own_.emplace_back(geometry_.block_size());
    return own_.back().span();
  }
  std::span<std::byte> append(std::span<std::byte> block) {
    blocks_.push_back(block);
    return block;
  }

  void set_descriptor(std::span<std::byte> block, LogDescriptorType type, std::uint32_t length, std::size_t count) {
    auto& descriptor = view<LogDescriptor>(block);
    descriptor.header.set(MetaType::log_descriptor);
    descriptor.type = static_cast<std::uint32_t>(type);
    descriptor.length = length;
    descriptor.data1 = static_cast<std::uint32_t>(count);
  }

  static std::size_t fill_numbers(std::span<std::byte> block, std::size_t header_bytes,
                                  std::span<const BlockNo> numbers) {
    auto places = pointers(block, header_bytes);
    std::size_t count = std::min(places.size(), numbers.size());
    for (std::size_t i = 0; i < count; ++i)
      places[i] = numbers[i].value;
    return count;
  }

  const Geometry& geometry_;
  std::vector<AlignedBuffer> own_;
  std::vector<WriteSpan> blocks_;
};

Task<void> write_run(Device& device, std::uint64_t offset_bytes, std::span<const WriteSpan> spans, Result<>& result) {
  Result<> written = co_await device.write(offset_bytes, spans, WriteMode::cached);
  if (!written && result) result = std::move(written);
}

}  // namespace

std::uint32_t log_blocks_for(const Geometry& geometry, std::size_t metadata, std::size_t journaled_data,
                             std::size_t revokes) {
  return static_cast<std::uint32_t>(metadata + journaled_data) +
         divide_up(metadata, metadata_per_descriptor(geometry)) +
         divide_up(journaled_data, data_per_descriptor(geometry)) + revoke_blocks(geometry, revokes);
}

Task<Result<>> write_log_blocks(Executor& executor, Device& device, const Geometry& geometry, const JournalMap& map,
                                std::uint32_t start, std::span<const LoggedState> states,
                                std::span<const BlockNo> revokes) {
  std::vector<LoggedState> data;
  std::vector<LoggedState> metadata;
  for (const LoggedState& state : states)
    (state.journaled_data ? data : metadata).push_back(state);
  LogImage image(geometry);
  image.add_states(data, true);
  image.add_states(metadata, false);
  image.add_revokes(revokes);

  Result<> result;
  Scope writes(executor);
  std::span<const WriteSpan> rest(image.blocks());
  std::uint32_t position = start;
  while (!rest.empty()) {
    JournalMap::Run run = map.run_at(position);
    std::size_t count = std::min({rest.size(), std::size_t{run.length}, kMaxSpansPerWrite});
    writes.spawn(write_run(device, geometry.offset_bytes(run.start), rest.first(count), result));
    rest = rest.subspan(count);
    position = static_cast<std::uint32_t>((position + count) % map.size_blocks());
  }
  co_await writes.join();
  co_return result;
}

AlignedBuffer encode_log_header(const Geometry& geometry, const JournalMap& map, const LogHeaderFields& fields) {
  AlignedBuffer buffer(geometry.block_size());
  auto& header = view<LogHeader>(buffer.span());
  header.header.set(MetaType::log_header);
  header.header.jid = fields.journal.value;
  header.sequence = fields.sequence;
  header.flags = fields.flags;
  header.tail = fields.tail;
  header.block_number = fields.block;
  header.nanoseconds = fields.time.nanoseconds;
  header.seconds = static_cast<std::uint64_t>(fields.time.seconds);
  header.addr = map.block_at(fields.block).value;
  header.journal_inode = fields.journal_inode.value;
  header.statfs_addr = fields.extras.statfs_inode.value;
  header.quota_addr = fields.extras.quota_inode.value;
  header.local_total = static_cast<std::uint64_t>(fields.extras.local_total);
  header.local_free = static_cast<std::uint64_t>(fields.extras.local_free);
  header.local_dinodes = static_cast<std::uint64_t>(fields.extras.local_dinodes);
  header.hash = log_header_hash(header);
  header.crc = log_header_crc(buffer.span());
  return buffer;
}

}  // namespace corral
