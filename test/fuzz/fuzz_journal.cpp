// A log header (its sums put right if they are not) or a log descriptor.
#include "ondisk/checksum.h"
#include "ondisk/validate.h"
#include "test/fuzz/input.h"

using namespace corral;
using namespace corral::ondisk;

namespace {
constexpr std::uint64_t kJournalBlocks = 2048;

void fuzz_header(std::span<std::byte> block) {
  auto& header = view<LogHeader>(block);
  const FileBlock place(header.block_number);
  if (!check_log_header(block, place)) {
    header.hash = log_header_hash(header);
    header.crc = log_header_crc(block);
    CHECK_INVARIANT(check_log_header(block, place));
  }
  if (check_log_tail(header, kJournalBlocks)) CHECK_INVARIANT(header.tail < kJournalBlocks);
}

void fuzz_descriptor(std::span<const std::byte> block) {
  if (!check_log_descriptor(block, FileBlock(3), kJournalBlocks)) return;
  const auto& descriptor = view<LogDescriptor>(block);
  const std::size_t entries = descriptor.data1;
  switch (static_cast<LogDescriptorType>(descriptor.type.value())) {
    case LogDescriptorType::metadata:
      return fuzz::touch(block.subspan(sizeof(LogDescriptor), entries * 8));
    case LogDescriptorType::journaled_data:
      return fuzz::touch(block.subspan(sizeof(LogDescriptor), entries * 16));
    case LogDescriptorType::revoke:
      return;
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto block = fuzz::block_of(data, size);
  if (has_meta_type(block, MetaType::log_header)) fuzz_header(block);
  fuzz_descriptor(block);
  return 0;
}
