// A record of the cluster area, its checksum made right so that the fields behind it are reached. What is accepted says
// the same when it is written again.
#include "base/check.h"
#include "cluster/area_format.h"
#include "ondisk/checksum.h"
#include "ondisk/endian.h"
#include "test/fuzz/input.h"

using namespace corral;
using namespace corral::cluster;

namespace {

using Record = std::vector<std::byte>;

constexpr std::size_t kCrcOffset = 12;

Record with_checksum(Record record, std::size_t checked_bytes) {
  std::ranges::fill(std::span(record).subspan(kCrcOffset, 4), std::byte{0});
  const ondisk::be32 crc = ondisk::crc32c(std::span(record).first(checked_bytes));
  std::memcpy(record.data() + kCrcOffset, &crc, sizeof(crc));
  return record;
}

template <class Decode, class Encode>
void check_round_trip(const Record& record, Decode decode, Encode encode) {
  const auto read = decode(record);
  if (!read) return fuzz::touch(read.error().message());
  Record written(kRecordBytes);
  encode(*read, written);
  const auto again = decode(written);
  CHECK_INVARIANT(again && *again == *read);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Record record(kRecordBytes);
  if (size > 0) std::memcpy(record.data(), data, std::min(size, record.size()));
  check_round_trip(with_checksum(record, kRecordBytes), decode_header, encode_header);
  check_round_trip(with_checksum(record, kRecordBytes), decode_view, encode_view);
  const auto decode = [](const Record& bytes) { return decode_slot(bytes, NodeId(3)); };
  check_round_trip(with_checksum(record, kSlotRecordBytes), decode, encode_slot);
  return 0;
}
