#include "tools/image/image_format.h"

#include <cstring>

#include "test/support/catch.h"
#include "test/support/image_bytes.h"
#include "tools/image/image_file.h"

using namespace corral;
using namespace corral::image;

namespace {

const Header kHeader{.block_size = 512,
                     .device_bytes = 1 << 20,
                     .saved_at_seconds = 1700000000,
                     .nodes_lived = true,
                     .contents_kept = false,
                     .blanked = true};

/// An image of `blocks` blocks, from number 100 on, each filled with its number.
std::vector<std::byte> image_of(std::uint64_t blocks) {
  std::vector<std::byte> bytes;
  ImageWriter writer(
      [&bytes](std::span<const std::byte> part) {
        bytes.insert(bytes.end(), part.begin(), part.end());
        return Result<>();
      },
      kHeader);
  REQUIRE(writer.begin());
  for (std::uint64_t i = 0; i < blocks; ++i)
    REQUIRE(writer.add(BlockNo(100 + i % 1900), std::vector<std::byte>(512, static_cast<std::byte>(i))));
  REQUIRE(writer.end(3));
  CHECK(writer.bytes_written() == bytes.size());
  return bytes;
}

/// The error that reading all of it ends with; nothing if there is none.
std::string error_of(const std::vector<std::byte>& bytes) {
  ImageReader reader = reader_of(bytes);
  if (auto begun = reader.begin(); !begun) return begun.error().describe();
  for (;;) {
    auto frame = reader.next();
    if (!frame) return frame.error().describe();
    if (!*frame) return {};
  }
}

}  // namespace

TEST_CASE("an image gives back what was put in") {
  // Full frames and one that is not, or none at all.
  for (const std::uint64_t blocks : {0u, 1u, 2048u, 5000u}) {
    const std::vector<std::byte> bytes = image_of(blocks);
    ImageReader reader = reader_of(bytes);
    auto header = reader.begin();
    REQUIRE(header);
    CHECK(*header == kHeader);
    std::uint64_t seen = 0;
    for (;;) {
      auto frame = reader.next();
      REQUIRE(frame);
      if (!*frame) break;
      for (std::size_t i = 0; i < (*frame)->numbers.size(); ++i, ++seen) {
        CHECK((*frame)->numbers[i] == BlockNo(100 + seen % 1900));
        CHECK((*frame)->contents[i * 512 + 511] == static_cast<std::byte>(seen));
      }
    }
    CHECK(seen == blocks);
    CHECK(reader.totals() == Totals{.blocks = blocks, .unreadable = 3});
  }
}

TEST_CASE("an image that was cut off anywhere is refused") {
  const std::vector<std::byte> whole = image_of(3000);
  CHECK(error_of(whole).empty());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    if (error_of(part).empty()) FAIL("cut off at " << length);
  }
  std::vector<std::byte> longer = whole;
  longer.push_back(std::byte{0});
  CHECK(error_of(longer).find("follows") != std::string::npos);
}

TEST_CASE("a change of any byte of an image is noticed") {
  const std::vector<std::byte> whole = image_of(3000);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::vector<std::byte> damaged = whole;
    damaged[at] ^= std::byte{0x10};
    if (error_of(damaged).empty()) FAIL("byte " << at);
  }
}

TEST_CASE("frames that are missing or stand in another order are noticed") {
  const std::vector<std::byte> whole = image_of(5000);
  ImageReader reader = reader_of(whole);
  REQUIRE(reader.begin());
  auto first = decode_frame_header(std::span(whole).subspan(kHeaderBytes, kFrameHeaderBytes), 0, 512);
  REQUIRE(first);
  std::vector<std::byte> without(whole.begin(), whole.begin() + kHeaderBytes);
  without.insert(without.end(),
                 whole.begin() + static_cast<std::ptrdiff_t>(kHeaderBytes + kFrameHeaderBytes + first->payload_bytes),
                 whole.end());
  CHECK(error_of(without).find("frame 0 expected") != std::string::npos);
}

TEST_CASE("what is no image is told from a newer one") {
  CHECK(error_of(std::vector<std::byte>(4096)) == "no metadata image of corral image save");
  std::vector<std::byte> bytes = encode_header(kHeader);
  CHECK(decode_header(bytes));
  CHECK_FALSE(decode_header(std::span(bytes).first(63)));
}
