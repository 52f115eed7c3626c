#include <algorithm>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>

#include "test/sim/cluster/simulation.h"
#include "test/sim/cluster/user.h"

namespace corral::sim {

namespace {
/// Users who may append at the same time, each of them to a file that still has room.
constexpr std::size_t kMostAppending = 64;

/// A slot's contents say all over which write they are of.
AlignedBuffer filled(SlotValue value, std::size_t bytes) {
  AlignedBuffer buffer(bytes);
  for (std::size_t at = 0; at + sizeof(value) <= bytes; at += sizeof(value))
    std::memcpy(buffer.data() + at, &value, sizeof(value));
  return buffer;
}
int code_of(const Result<std::size_t>& result, std::size_t expected) {
  if (!result) return result.error().code();
  return *result == expected ? 0 : EMSGSIZE;
}
}  // namespace

std::vector<SlotValue> User::slots_of(const SharedFile& file, std::span<const std::byte> contents) {
  std::vector<SlotValue> slots;
  while (!contents.empty()) {
    const auto slot = contents.first(std::min<std::size_t>(file.slot_bytes, contents.size()));
    contents = contents.subspan(slot.size());
    std::vector<SlotValue> parts;
    for (std::size_t at = 0; at + sizeof(SlotValue) <= slot.size(); at += sizeof(SlotValue)) {
      SlotValue value = 0;
      std::memcpy(&value, slot.data() + at, sizeof(value));
      if (parts.empty() || parts.back() != value) parts.push_back(value);
    }
    const std::string_view bytes(reinterpret_cast<const char*>(slot.data()), slot.size());
    const bool whole = parts.size() == 1 && slot.size() == file.slot_bytes;
    slots.push_back(whole ? parts.front() : objects_.mixtures.intern(std::move(parts), digest(bytes)));
  }
  return slots;
}

Task<void> User::work_on_file(SharedFile& file, Deed deed) {
  switch (deed) {
    case Deed::read:
      co_return co_await read_file(file);
    case Deed::read_size:
      co_return co_await read_size(file);
    case Deed::write:
      co_return co_await write_slots(file);
    case Deed::append:
      co_return co_await append_slot(file);
    case Deed::truncate:
      co_return co_await truncate_file(file);
    default:
      co_return co_await sync_file(file);
  }
}

Task<void> User::read_file(SharedFile& file) {
  const Entry entry = begin(file.history, {.kind = Kind::read});
  // More slots than there can be: what should not be there is to be seen.
  AlignedBuffer buffer(std::size_t{file.slot_bytes} * (file.slots_most + kMostAppending + 1));
  const auto got = co_await operations().read(file.inode, 0, buffer.span());
  if (got) entry->seen = slots_of(file, buffer.span().first(*got));
  end(entry, got ? 0 : got.error().code());
}

Task<void> User::read_size(SharedFile& file) {
  const Entry entry = begin(file.history, {.kind = Kind::size});
  const auto attributes = co_await operations().get_attributes(file.inode);
  if (attributes) {
    entry->count = static_cast<std::uint32_t>(attributes->size_bytes / file.slot_bytes);
    if (attributes->size_bytes % file.slot_bytes != 0) {
      simulation_.fail_run(fmt::format("file {} has {} bytes, no number of slots", file.name, attributes->size_bytes));
    }
  }
  end(entry, attributes ? 0 : attributes.error().code());
}

Task<void> User::write_slots(SharedFile& file) {
  const auto first = static_cast<std::uint32_t>(random_.below(file.slots_most));
  const auto count = static_cast<std::uint32_t>(random_.between(1, std::min(3U, file.slots_most - first)));
  const SlotValue value = objects_.next_value();
  const Entry entry = begin(file.history, {.kind = Kind::write, .first = first, .count = count, .value = value});
  const AlignedBuffer buffer = filled(value, std::size_t{file.slot_bytes} * count);
  Operations::WriteHow how;
  if (random_.chance(1, 16)) how.flags = O_DSYNC;
  const auto written =
      co_await operations().write(file.inode, std::uint64_t{file.slot_bytes} * first, buffer.span(), how);
  end(entry, code_of(written, buffer.span().size()));
}

Task<void> User::append_slot(SharedFile& file) {
  // So that the file does not grow for ever; who comes at the same time may grow it a little more.
  const auto attributes = co_await operations().get_attributes(file.inode);
  if (!attributes) co_return;
  if (attributes->size_bytes >= std::uint64_t{file.slot_bytes} * (file.slots_most - 1)) {
    co_return co_await truncate_file(file);
  }
  const SlotValue value = objects_.next_value();
  const Entry entry = begin(file.history, {.kind = Kind::append, .value = value});
  const AlignedBuffer buffer = filled(value, file.slot_bytes);
  const auto written = co_await operations().write(file.inode, 0, buffer.span(), {.flags = O_APPEND});
  end(entry, code_of(written, buffer.span().size()));
}

Task<void> User::truncate_file(SharedFile& file) {
  const auto count = static_cast<std::uint32_t>(random_.below(file.slots_most / 2 + 1));
  const Entry entry = begin(file.history, {.kind = Kind::truncate, .count = count});
  AttributeChange change;
  change.size_bytes = std::uint64_t{file.slot_bytes} * count;
  const auto done = co_await operations().set_attributes(file.inode, change, Caller{});
  end(entry, done ? 0 : done.error().code());
}

Task<void> User::sync_file(SharedFile& file) {
  const Entry entry = begin(file.history, {.kind = Kind::sync});
  const auto done = co_await operations().fsync(file.inode, random_.chance(1, 2));
  end(entry, done ? 0 : done.error().code());
}

/// Nobody else comes near it: what was written must be read.
Task<void> User::big_file() {
  const std::string name = fresh_name("big");
  NewNode node;
  node.mode = S_IFREG | 0644;
  const auto made = co_await operations().create(objects_.top, name, node, Caller{});
  if (!made) co_return tell("create " + name, made.error().code());
  const BlockNo inode = made->attributes.inode;
  const SlotValue value = objects_.next_value();
  const AlignedBuffer buffer = filled(value, 64 << 10);
  const std::uint64_t pieces = random_.between(2, 24);
  int error = 0;
  for (std::uint64_t piece = 0; piece < pieces && error == 0; ++piece)
    error = code_of(co_await operations().write(inode, piece * buffer.span().size(), buffer.span(), {}),
                    buffer.span().size());
  if (error == 0 && random_.chance(1, 2)) {
    const auto synced = co_await operations().fsync(inode, false);
    if (!synced) error = synced.error().code();
  }
  AlignedBuffer back(buffer.span().size());
  for (std::uint64_t piece = 0; piece < pieces && error == 0; ++piece) {
    error = code_of(co_await operations().read(inode, piece * back.span().size(), back.span()), back.span().size());
    if (error == 0 && !std::ranges::equal(back.span(), buffer.span()))
      simulation_.fail_run(fmt::format("node {}: {} does not hold what was written", host_.name(), name));
  }
  tell(fmt::format("{} of {} pieces", name, pieces), error);
  static_cast<void>(co_await operations().unlink(objects_.top, name));
  operations().forget(inode, 1);
}

}  // namespace corral::sim
