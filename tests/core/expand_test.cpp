// Expanded dispatches beyond what random worlds do: wrong arguments, disagreement, sizes, and masks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <functional>
#include <string>
#include <vector>

#include <crossdock/config.hpp>

#include "core/expanded_mask.hpp"
#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/tensors.hpp"
#include "plan/experts.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kBadRank = 1;  // it has five tokens
constexpr int kAlignment = 4;

DispatchInput expanded_input(int rank, const RoundTripShape& shape = {}) {
  DispatchInput input = RoundTrip(rank, kRanks, shape).input();
  input.expand = true;
  input.expert_alignment = kAlignment;
  return input;
}

/// One rank spoils its dispatch.
void expect_refused(ErrorCode code, const std::vector<std::string>& texts,
                    const std::function<void(DispatchInput&)>& spoil) {
  const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
    DispatchInput input = expanded_input(buffer.rank());
    if (buffer.rank() == kBadRank) spoil(input);
    static_cast<void>(buffer.dispatch(input));
  });
  expect_refusal(attempts, {code, kBadRank, texts});
}

DispatchLayout make_layout(const DispatchInput& input) {
  DispatchLayout layout;
  layout.num_tokens_per_rank = make_tensor(DataType::kInt32, {kRanks});
  layout.num_tokens_per_expert = make_tensor(DataType::kInt32, {input.num_experts});
  layout.is_token_in_rank = make_tensor(DataType::kBool, {input.x.size(0), kRanks});
  return layout;
}

TEST(BadExpandedDispatch, WithoutTopk) {
  expect_refused(ErrorCode::kInvalidArgument, {"expand needs topk_idx"}, [](DispatchInput& in) {
    in.layout = make_layout(in);
    in.topk_idx.reset();
    in.topk_weights.reset();
  });
}

TEST(BadExpandedDispatch, IdOutOfRange) {
  expect_refused(ErrorCode::kInvalidArgument, {"topk_idx[1][0] is 6", "-1 and 0 to 5"},
                 [](DispatchInput& in) { set_id(*in.topk_idx, 2, 6); });
}

TEST(BadExpandedDispatch, LayoutThatCountsOtherSelections) {
  expect_refused(ErrorCode::kInvalidArgument, {"num_tokens_per_expert says 100 for expert 3"}, [](DispatchInput& in) {
    in.layout = make_layout(in);
    auto* counts = in.layout->num_tokens_per_expert.data_as<std::int32_t>();
    for (std::int64_t i = 0; i < in.topk_idx->num_elements(); ++i) {
      if (const auto id = in.topk_idx->data_as<std::int64_t>()[i]; id >= 0) ++counts[id];
    }
    counts[3] = 100;
  });
}

TEST(ExpandedDispatch, MustBeOneOnAllRanks) {
  expect_refused(ErrorCode::kMismatch, {"expand", "rank 0 has present", "rank 1 has absent"},
                 [](DispatchInput& in) { in.expand = false; });
}

TEST(ExpandedDispatch, MustHaveTheSameAlignmentOnAllRanks) {
  expect_refused(ErrorCode::kMismatch, {"expert_alignment", "rank 0 has 4", "rank 1 has 8"},
                 [](DispatchInput& in) { in.expert_alignment = 8; });
}

TEST(ExpandedDispatch, OfMoreRowsThanRowNumbersIsRefused) {
  const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
    DispatchInput input = expanded_input(buffer.rank());
    input.expert_alignment = 2'000'000'000;
    static_cast<void>(buffer.dispatch(input));
  });
  for (const Attempt& each : attempts) {
    ASSERT_TRUE(each.error.has_value());
    EXPECT_EQ(name_of(each.error->code()), name_of(ErrorCode::kCapacity)) << each.error->what();
    EXPECT_THAT(each.error->what(), ::testing::HasSubstr("at most 2147483647 are allowed"));
  }
}

TEST(ExpandedDispatch, OfAWorstCaseThatIsTooSmallIsRefused) {
  const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
    DispatchInput input = expanded_input(buffer.rank());
    input.num_worst_tokens = buffer.rank() == kBadRank ? 7 : 100;  // two groups of a row or more each
    static_cast<void>(buffer.dispatch(input));
  });
  expect_refusal(attempts, {ErrorCode::kCapacity, kBadRank, {"num_worst_tokens is 7 there"}});
}

TEST(ExpandedDispatch, HasNoParityMatrices) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const DispatchOutput output = buffer.dispatch(expanded_input(buffer.rank()));
    EXPECT_EQ(output.recv_x.size(0) % kAlignment, 0);
    EXPECT_EQ(output.handle.num_recv_rows(), output.recv_x.size(0));
    EXPECT_EQ(output.handle.rank_prefix_matrix().data_as<std::int32_t>()[(kRanks - 1) * kRanks + buffer.rank()],
              output.handle.num_recv_tokens());
    try {
      static_cast<void>(output.handle.parity_matrices(2));
      ADD_FAILURE() << "it has";
    } catch (const Error& error) {
      EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kState)) << error.what();
      EXPECT_THAT(error.what(), ::testing::HasSubstr("expanded"));
    }
  });
}

/// The hint for what a rank receives, combine_input included.
std::size_t hint_for(const Buffer& buffer, std::int64_t num_rows) {
  const std::int64_t row_bytes = std::int64_t{24} * 2;
  return get_arena_size_hint({.num_recv_tokens = num_rows,
                              .row_bytes = row_bytes,
                              .num_scales = 2,
                              .num_topk = 2,
                              .combine_row_bytes = row_bytes,
                              .num_local_experts = buffer.local_experts(6).count});
}

TEST(ExpandedDispatch, TakesWhatTheHintSays) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    RoundTripShape shape;
    shape.num_scales = 2;
    const std::size_t before = buffer.arena_bytes_free();
    const DispatchOutput output = buffer.dispatch(expanded_input(buffer.rank(), shape));
    const Tensor rows = buffer.combine_input(output.handle, 24);
    const std::size_t weights_of_combine = (static_cast<std::size_t>(rows.size(0)) * 4 + 127) / 128 * 128;
    EXPECT_EQ(before - buffer.arena_bytes_free() + weights_of_combine, hint_for(buffer, rows.size(0)));
  });
}

TEST(ExpandedDispatch, TellsTheBytesThatWouldDo) {
  const auto run = [](std::size_t arena_of_bad_rank) {
    std::string text;
    run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
      BufferOptions options = roomy_options();
      if (bootstrap->rank() == kBadRank) options.arena_bytes = arena_of_bad_rank;
      Buffer buffer(bootstrap, options);
      RoundTripShape shape;
      shape.hidden = 4000;
      try {
        static_cast<void>(buffer.dispatch(expanded_input(buffer.rank(), shape)));
      } catch (const Error& error) {
        EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kCapacity)) << error.what();
        EXPECT_EQ(error.rank(), kBadRank);
        if (buffer.rank() == kBadRank) text = error.what();
      }
    });
    return text;
  };
  const std::string text = run(4096);
  const std::string before = "arena_bytes of ";
  ASSERT_THAT(text, ::testing::HasSubstr(before));
  EXPECT_EQ(run(std::stoull(text.substr(text.find(before) + before.size()))), "");
}

/// One rank spoils its combine.
void expect_combine_refused(const std::vector<std::string>& texts, const std::function<void(CombineInput&)>& spoil) {
  const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
    const DispatchOutput dispatched = buffer.dispatch(expanded_input(buffer.rank()));
    CombineInput input = combine_of(dispatched);
    input.topk_weights = dispatched.recv_topk_weights;
    if (buffer.rank() == kBadRank) spoil(input);
    static_cast<void>(buffer.combine(input));
  });
  expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, texts});
}

TEST(BadExpandedCombine, WeightsOfTwoDimensions) {
  expect_combine_refused({"topk_weights is float32 [", "one for each row"}, [](CombineInput& in) {
    in.topk_weights = make_tensor(DataType::kFloat32, {in.x.size(0), 2});
  });
}

TEST(BadExpandedCombine, FewerWeightsThanRows) {
  expect_combine_refused({"topk_weights is float32 [", "one for each row"}, [](CombineInput& in) {
    in.topk_weights = make_tensor(DataType::kFloat32, {in.x.size(0) - 1});
  });
}

TEST(BadExpandedCombine, RowsWithoutPadding) {
  expect_combine_refused({"rows, but the dispatch returned"},
                         [](CombineInput& in) { in.x = in.x.first(in.handle.num_recv_tokens()); });
}

TEST(ExpandedDispatch, HandleFromBeforeAMask) {
  std::barrier<> barrier(kExpandedMaskRanks);
  run_as_threads(kExpandedMaskRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    for (const bool with_worst_case : {false, true}) {
      const auto meet = [&] { barrier.arrive_and_wait(); };
      for (const std::string& line : run_expanded_mask(buffer, TensorPlace(), meet, with_worst_case)) {
        ADD_FAILURE() << "rank " << buffer.rank() << ": " << line;
      }
      meet();
      buffer.clear_masks();
      meet();
    }
  });
}

}  // namespace
}  // namespace crossdock::testing
