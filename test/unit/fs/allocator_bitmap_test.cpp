#include <vector>

#include "base/random.h"
#include "fs/bitmap.h"
#include "test/support/catch.h"

using namespace corral;
using ondisk::BlockState;

namespace {

/// The plain way: one element a block.
struct Model {
  std::vector<BlockState> states;
  std::vector<bool> held;

  std::uint32_t find(std::uint32_t from, auto wanted) const {
    for (std::uint32_t i = from; i < states.size(); ++i)
      if (wanted(i)) return i;
    return static_cast<std::uint32_t>(states.size());
  }
  bool is_free(std::uint32_t i) const { return states[i] == BlockState::free && !held[i]; }
  BlockRun find_run(std::uint32_t from, std::uint32_t end, std::uint32_t wanted) const {
    BlockRun best;
    for (std::uint32_t first = from; first < end; ++first) {
      std::uint32_t length = 0;
      while (first + length < end && length < wanted && is_free(first + length))
        ++length;
      if (length > best.length) best = {first, length};
      if (length == wanted) break;
    }
    return best;
  }
};

void check_same(const Model& model, std::span<const std::byte> bytes, const HeldBlocks& held, Random& random) {
  const BitmapView view(bytes);
  const std::uint32_t blocks = view.blocks();
  REQUIRE(blocks == model.states.size());
  StateCounts counts;
  for (std::uint32_t i = 0; i < blocks; ++i) {
    REQUIRE(view.at(i) == model.states[i]);
    (model.states[i] == BlockState::free       ? counts.free
     : model.states[i] == BlockState::used     ? counts.used
     : model.states[i] == BlockState::unlinked ? counts.unlinked
                                               : counts.dinodes)++;
  }
  const StateCounts got = view.counts();
  CHECK(got.free == counts.free);
  CHECK(got.used == counts.used);
  CHECK(got.unlinked == counts.unlinked);
  CHECK(got.dinodes == counts.dinodes);
  for (int i = 0; i < 20; ++i) {
    const auto from = static_cast<std::uint32_t>(random.below(blocks + 2));
    for (BlockState state : {BlockState::free, BlockState::used, BlockState::unlinked, BlockState::dinode})
      CHECK(view.find(state, from) ==
            (from >= blocks ? blocks : model.find(from, [&](std::uint32_t b) { return model.states[b] == state; })));
    CHECK(view.find_free(from, held) ==
          (from >= blocks ? blocks : model.find(from, [&](std::uint32_t b) { return model.is_free(b); })));
    const auto end = static_cast<std::uint32_t>(random.below(blocks + 1));
    const auto taken = from >= blocks ? blocks : model.find(from, [&](std::uint32_t b) { return !model.is_free(b); });
    CHECK(view.find_taken(from, end, held) == std::min(taken, end));
    const auto wanted = static_cast<std::uint32_t>(random.between(1, 50));
    const BlockRun run = view.find_run(from, end, wanted, held);
    const BlockRun expected = model.find_run(from, end, wanted);
    CHECK(run.first == expected.first);
    CHECK(std::min(run.length, wanted) == expected.length);
  }
}

}  // namespace

TEST_CASE("bitmap: searching and changing agree with a plain model at every size", "[fs][bitmap]") {
  Random random(GENERATE(1u, 2u, 3u));
  for (std::size_t size : {1u, 7u, 8u, 9u, 63u, 384u, 488u, 514u}) {
    std::vector<std::byte> bytes(size);
    const auto blocks = static_cast<std::uint32_t>(size * 4);
    Model model{std::vector<BlockState>(blocks), std::vector<bool>(blocks)};
    HeldBlocks held;
    for (int round = 0; round < 30; ++round) {
      const auto first = static_cast<std::uint32_t>(random.below(blocks));
      const auto count = static_cast<std::uint32_t>(random.between(1, std::min<std::uint64_t>(blocks - first, 100)));
      const auto state = static_cast<BlockState>(random.below(4));
      set_states(bytes, first, count, state);
      std::fill_n(model.states.begin() + first, count, state);

      const auto held_first = static_cast<std::uint32_t>(random.below(blocks));
      std::uint32_t run = 1;
      while (held_first + run < blocks && model.held[held_first + run] == model.held[held_first] && run < 40)
        ++run;
      if (model.held[held_first])
        held.remove(held_first, run);
      else
        held.add(held_first, run, blocks);
      std::fill_n(model.held.begin() + held_first, run, !model.held[held_first]);
      CHECK(held.count() == static_cast<std::uint32_t>(std::count(model.held.begin(), model.held.end(), true)));
      check_same(model, bytes, held, random);
    }
  }
}

TEST_CASE("bitmap: all_in looks at exactly the blocks named", "[fs][bitmap]") {
  std::vector<std::byte> bytes(100);
  set_states(bytes, 31, 70, BlockState::dinode);
  const BitmapView view(bytes);
  CHECK(view.all_in(BlockState::dinode, 31, 70));
  CHECK_FALSE(view.all_in(BlockState::dinode, 30, 71));
  CHECK_FALSE(view.all_in(BlockState::dinode, 31, 71));
  CHECK(view.all_in(BlockState::free, 0, 31));
  CHECK(view.all_in(BlockState::free, 101, 299));
}
