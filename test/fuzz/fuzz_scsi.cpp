// The input is what a disk answers: to every question about itself and its reservations.
#include "disk/reservation_format.h"
#include "disk/scsi.h"
#include "test/fuzz/input.h"

using namespace corral;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Memory of its own, so that a sanitizer sees every byte read behind its end.
  const std::vector<std::byte> input(reinterpret_cast<const std::byte*>(data),
                                     reinterpret_cast<const std::byte*>(data) + size);
  fuzz::touch(scsi::describe({.status = scsi::Status::check_condition, .sense = scsi::decode_sense(input)}));
  if (auto inquiry = scsi::decode_inquiry(input)) fuzz::touch(inquiry->vendor + inquiry->product);
  if (auto capacity = scsi::decode_capacity(input)) {
    CHECK_INVARIANT(capacity->blocks > 0 && capacity->blocks <= (std::uint64_t{1} << 62) / capacity->block_bytes);
    CHECK_INVARIANT(capacity->physical_block_bytes >= capacity->block_bytes);
  }
  (void)scsi::decode_block_limits(input);
  (void)scsi::decode_provisioning(input);
  (void)scsi::decode_caching(input);
  (void)scsi::decode_support(input);
  if (auto list = reservation_format::decode_keys(input))
    CHECK_INVARIANT(reservation_format::key_list_bytes(list->registered.keys.size()) <=
                    std::min<std::uint64_t>(list->needed_bytes, size));
  if (auto state = reservation_format::decode_reservation(input))
    CHECK_INVARIANT(state->type != ReservationType::none || state->holder.value == 0);
  (void)reservation_format::decode_capabilities(input);
  for (bool extended : {false, true})
    if (auto report = reservation_format::decode_nvme_report(input, extended))
      CHECK_INVARIANT(report->registered.keys.size() * 24 <= size);
  return 0;
}
