#include "backend/host/window.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace crossdock::host {
namespace {

TEST(WindowLayout, PiecesFollowEachOtherWithoutOverlap) {
  for (const int num_ranks : {1, 2, 7, 64, 1000}) {
    for (const int max_experts : {1, 31, 2048}) {
      const WindowLayout layout(num_ranks, max_experts);
      const std::size_t counts = static_cast<std::size_t>(num_ranks + max_experts) * sizeof(std::int32_t) +
                                 static_cast<std::size_t>(num_ranks);  // the masks
      EXPECT_GE(layout.slot_bytes(), sizeof(Slot) + counts);
      EXPECT_LT(layout.slot_bytes(), sizeof(Slot) + counts + kLineBytes);
      EXPECT_GE(layout.masked_since_offset(), sizeof(WindowHeader));
      EXPECT_GE(layout.slot_offset(0),
                layout.masked_since_offset() + static_cast<std::size_t>(num_ranks) * sizeof(std::uint64_t));
      for (std::uint64_t epoch = 1; epoch < kNumSlots; ++epoch) {
        EXPECT_EQ(layout.slot_offset(epoch), layout.slot_offset(epoch - 1) + layout.slot_bytes());
        EXPECT_EQ(layout.slot_offset(epoch) % kLineBytes, 0U);
      }
      EXPECT_EQ(layout.slot_offset(kNumSlots + 3), layout.slot_offset(3));
      EXPECT_GE(layout.arena_offset(), layout.slot_offset(kNumSlots - 1) + layout.slot_bytes());
      EXPECT_EQ(layout.arena_offset() % 4096, 0U);
    }
  }
}

TEST(WindowLayout, CountsLieBehindTheirSlot) {
  const WindowLayout layout(3, 10);
  std::vector<std::byte> memory(layout.slot_bytes() + kLineBytes);
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  auto* at = memory.data() + ((address + kLineBytes - 1) / kLineBytes * kLineBytes - address);
  Slot& slot = *new (at) Slot;
  const auto ranks = layout.rank_counts(slot);
  const auto experts = layout.expert_counts(slot);
  EXPECT_EQ(ranks.size(), 3U);
  EXPECT_EQ(experts.size(), 10U);
  EXPECT_EQ(static_cast<void*>(ranks.data()), at + sizeof(Slot));
  EXPECT_EQ(experts.data(), ranks.data() + 3);
  const auto masked = layout.masked(slot);
  EXPECT_EQ(masked.size(), 3U);
  EXPECT_EQ(static_cast<void*>(masked.data()), experts.data() + experts.size());
  EXPECT_LE(reinterpret_cast<std::byte*>(masked.data() + masked.size()), at + layout.slot_bytes());
}

TEST(Phases, HaveNames) {
  EXPECT_EQ(name_of(Phase::kAnnounce), "announce");
  EXPECT_EQ(name_of(Phase::kPlace), "place");
  EXPECT_EQ(name_of(Phase::kSend), "send");
  EXPECT_EQ(name_of(Phase::kDone), "done");
}

}  // namespace
}  // namespace crossdock::host
