#include "disk/scsi.h"

#include <vector>

#include "test/support/catch.h"

using namespace corral;
using namespace corral::scsi;

namespace {
std::vector<std::byte> bytes(std::initializer_list<int> values, std::size_t length = 0) {
  std::vector<std::byte> made;
  for (int value : values)
    made.push_back(static_cast<std::byte>(value));
  made.resize(std::max(length, made.size()));
  return made;
}

std::vector<int> cdb_of(const Command& command) {
  return {command.cdb.begin(), command.cdb.begin() + command.cdb_length};
}
}  // namespace

TEST_CASE("SCSI commands have the bytes of SBC and SPC") {
  REQUIRE(cdb_of(read(0x0102030405060708, 0x20, 512)) ==
          std::vector<int>{0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0x20, 0, 0});
  REQUIRE(read(0, 0x20, 512).length_bytes == 0x4000);
  REQUIRE(cdb_of(write(1, 2, 4096, true)) == std::vector<int>{0x8A, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0});
  REQUIRE(write(1, 2, 4096, false).cdb[1] == 0);
  REQUIRE(cdb_of(synchronize_cache()) == std::vector<int>{0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  REQUIRE(cdb_of(inquiry_page(0xB0, 64)) == std::vector<int>{0x12, 1, 0xB0, 0, 64, 0});
  REQUIRE(cdb_of(read_capacity()) == std::vector<int>{0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0});
  REQUIRE(cdb_of(mode_sense_caching()) == std::vector<int>{0x5A, 8, 8, 0, 0, 0, 0, 0, 64, 0});
  REQUIRE(cdb_of(unmap()) == std::vector<int>{0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0});
  REQUIRE(encode_unmap(0x11, 0x22) ==
          bytes({0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 0x22, 0, 0, 0, 0}));
  REQUIRE(cdb_of(write_same_unmap(3, 4, 512)) == std::vector<int>{0x93, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0});
  REQUIRE(cdb_of(report_support(0x5F, 5)) == std::vector<int>{0xA3, 0x0C, 2, 0x5F, 0, 5, 0, 0, 0, 4, 0, 0});
}

TEST_CASE("sense data of both formats, and of none") {
  REQUIRE(decode_sense(bytes({0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2A, 3}, 18)) == Sense{6, 0x2A, 3});
  REQUIRE(decode_sense(bytes({0x72, 5, 0x24, 0})) == Sense{5, 0x24, 0});
  REQUIRE(decode_sense(bytes({0x70, 0, 6})) == Sense{});
  REQUIRE(decode_sense(bytes({0x33, 0, 6}, 18)) == Sense{});
  REQUIRE(decode_sense({}) == Sense{});
}

TEST_CASE("unit attentions are told apart") {
  REQUIRE(is_reservation_attention({6, 0x2A, 3}));
  REQUIRE(is_reservation_attention({6, 0x2A, 5}));
  REQUIRE_FALSE(is_reservation_attention({6, 0x2A, 9}));
  REQUIRE_FALSE(is_reservation_attention({5, 0x2A, 3}));
  REQUIRE(is_power_on_attention({6, 0x29, 0}));
  REQUIRE_FALSE(is_power_on_attention({6, 0x29, 7}));
}

TEST_CASE("what a logical unit refuses becomes an errno") {
  auto sense_code = [](std::uint8_t key, std::uint8_t asc, std::uint8_t ascq) {
    return error_code({.status = Status::check_condition, .sense = {key, asc, ascq}});
  };
  REQUIRE(error_code({.status = Status::reservation_conflict}) == EBADE);
  REQUIRE(error_code({.status = Status::busy}) == EBUSY);
  REQUIRE(sense_code(kIllegalRequest, 0x20, 0) == EOPNOTSUPP);
  REQUIRE(sense_code(kIllegalRequest, 0x24, 0) == EOPNOTSUPP);
  REQUIRE(sense_code(kIllegalRequest, 0x26, 0) == EOPNOTSUPP);
  REQUIRE(sense_code(kIllegalRequest, 0x26, 4) == EIO);
  REQUIRE(sense_code(kIllegalRequest, 0x25, 0) == ENXIO);
  REQUIRE(sense_code(kDataProtect, 0x27, 0) == EROFS);
  REQUIRE(sense_code(3, 0x11, 0) == EIO);
  REQUIRE(describe({.status = Status::check_condition, .sense = {6, 0x2A, 5}}) ==
          "CHECK CONDITION, sense 06/2A/05 (registrations preempted)");
  REQUIRE(describe({.status = static_cast<Status>(0x30)}) == "status 30h");
}

TEST_CASE("capacities are checked") {
  Capacity capacity = *decode_capacity(bytes({0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 2, 0, 0, 3, 0x80, 1}, 32));
  REQUIRE(capacity.blocks == 65536);
  REQUIRE(capacity.block_bytes == 512);
  REQUIRE(capacity.physical_block_bytes == 4096);
  REQUIRE(capacity.alignment_offset_bytes == 512);
  REQUIRE(capacity.thin);
  REQUIRE_FALSE(decode_capacity(bytes({}, 15)));
  REQUIRE_FALSE(decode_capacity(bytes({0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 2, 1}, 32)));
  REQUIRE_FALSE(decode_capacity(bytes({0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0}, 32)));
  REQUIRE_FALSE(decode_capacity(bytes({0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0}, 32)));
}

TEST_CASE("pages of INQUIRY and MODE SENSE, whole and cut short") {
  auto limits = bytes(
      {0, 0xB0, 0, 0x3C, 0, 1, 0, 8, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 16}, 64);
  BlockLimits decoded = *decode_block_limits(limits);
  REQUIRE(decoded.optimal_granularity_blocks == 8);
  REQUIRE(decoded.most_transfer_blocks == 1024);
  REQUIRE(decoded.optimal_transfer_blocks == 512);
  REQUIRE(decoded.most_unmap_blocks == 65536);
  REQUIRE(decoded.unmap_granularity_blocks == 16);
  REQUIRE(decode_block_limits(std::span(limits).first(20))->most_unmap_blocks == 0);
  REQUIRE_FALSE(decode_block_limits(std::span(limits).first(8)));
  REQUIRE_FALSE(decode_provisioning(limits));
  REQUIRE(decode_provisioning(bytes({0, 0xB2, 0, 4, 0, 0x80, 0, 0}))->unmap);
  REQUIRE(decode_provisioning(bytes({0, 0xB2, 0, 4, 0, 0x40, 0, 0}))->write_same_unmap);

  Caching caching = *decode_caching(bytes({0, 0x1A, 0, 0x90, 0, 0, 0, 0, 0x08, 0x12, 0}, 28));
  REQUIRE_FALSE(caching.write_cache);
  REQUIRE(caching.force_unit_access);
  REQUIRE(caching.write_protected);
  REQUIRE(decode_caching(bytes({0, 6, 0, 0, 0, 0, 0, 0}))->write_cache);
  // Block descriptors that are said to fill more than there is.
  REQUIRE(decode_caching(bytes({0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF}, 28))->write_cache);

  Inquiry inquiry = *decode_inquiry(bytes({0x20, 0, 5, 2, 31, 0, 0, 0, 'I', 'E', 'T', 1, ' ', ' ', ' ', ' '}, 36));
  REQUIRE(inquiry.qualifier == 1);
  REQUIRE(inquiry.vendor == "IET?");
  REQUIRE_FALSE(decode_inquiry(bytes({0}, 35)));
  REQUIRE(decode_support(bytes({0, 3, 0, 0})) == true);
  REQUIRE(decode_support(bytes({0, 1, 0, 0})) == false);
  REQUIRE_FALSE(decode_support(bytes({0, 0, 0, 0})).has_value());
}
