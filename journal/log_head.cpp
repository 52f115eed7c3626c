#include "journal/log_head.h"

#include "ondisk/validate.h"

namespace corral {

using namespace ondisk;

bool HeadSearch::add(std::uint32_t journal_block, std::span<const std::byte> block) {
  // Most blocks are no headers: the cheap test first.
  if (!has_meta_type(block, MetaType::log_header) || !check_log_header(block, FileBlock(journal_block))) return true;
  const auto& header = view<LogHeader>(block);
  if (head_.found && header.sequence < head_.sequence) return false;
  head_.found = true;
  head_.sequence = header.sequence;
  head_.flags = header.flags;
  head_.block = journal_block;
  head_.tail = header.tail;
  head_.time = {static_cast<std::int64_t>(header.seconds.value()), header.nanoseconds};
  head_.extras = {
      BlockNo(header.statfs_addr), BlockNo(header.quota_addr), static_cast<std::int64_t>(header.local_total.value()),
      static_cast<std::int64_t>(header.local_free.value()), static_cast<std::int64_t>(header.local_dinodes.value())};
  return true;
}

namespace {

Task<Result<>> search(LogReader& reader, std::uint32_t block_size, HeadSearch& search) {
  for (;;) {
    CO_TRY(LogReader::Chunk chunk, co_await reader.next());
    if (chunk.bytes.empty()) co_return Result<>();
    std::uint32_t block = chunk.first_block;
    for (; !chunk.bytes.empty(); chunk.bytes = chunk.bytes.subspan(block_size)) {
      if (!search.add(block++, chunk.bytes.first(block_size))) co_return Result<>();
    }
  }
}

}  // namespace

Task<Result<JournalHead>> find_head(JournalAccess journal) {
  HeadSearch found;
  LogReader reader(journal);
  reader.request(0, journal.map.size_blocks());
  Result<> searched = co_await search(reader, journal.geometry.block_size(), found);
  co_await reader.stop();
  CO_TRY_VOID(std::move(searched));
  if (found.head().found && found.head().tail >= journal.map.size_blocks())
    co_return fail_corrupt("log header at journal block {}: tail {}, expected less than {}", found.head().block,
                           found.head().tail, journal.map.size_blocks());
  co_return found.head();
}

}  // namespace corral
