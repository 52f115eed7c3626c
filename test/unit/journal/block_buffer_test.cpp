#include "journal/block_buffer.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "test/support/catch.h"

using namespace corral;

TEST_CASE("block buffers are aligned to their size and do not overlap", "[block_buffer]") {
  for (std::size_t bytes : {512u, 1024u, 2048u, 4096u}) {
    std::vector<std::unique_ptr<BlockBuffer>> buffers;
    for (int i = 0; i < 2000; ++i) {
      auto& buffer = buffers.emplace_back(std::make_unique<BlockBuffer>(bytes));
      REQUIRE(buffer->size() == bytes);
      REQUIRE(reinterpret_cast<std::uintptr_t>(buffer->data()) % bytes == 0);
      std::memset(buffer->data(), i % 251, bytes);
      // Every third one is given back and its memory used again.
      if (i % 3 == 0) buffers.pop_back();
    }
    std::size_t wrong = 0;
    int i = 0;
    for (const auto& buffer : buffers) {
      while (i % 3 == 0)
        ++i;
      for (std::byte byte : buffer->span())
        wrong += byte == static_cast<std::byte>(i % 251) ? 0 : 1;
      ++i;
    }
    CHECK(wrong == 0);
  }
}
