// Arguments that are right on each rank but do not fit together: found by comparison, not by a hang.
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/tensors.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kOtherRank = 1;
constexpr std::int64_t kTokens = 5;  // of the other rank

struct Mismatch {
  std::string name;
  std::function<void(DispatchInput&)> differ;
  std::vector<std::string> texts;

  friend void PrintTo(const Mismatch& mismatch, std::ostream* out) { *out << mismatch.name; }
};

class MismatchTest : public ::testing::TestWithParam<Mismatch> {};

TEST_P(MismatchTest, IsFoundOnAllRanks) {
  for (const Completion completion : {Completion::kSynchronous, Completion::kAsynchronous}) {
    const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
      RoundTripShape shape;
      shape.num_scales = 2;
      DispatchInput input = RoundTrip(buffer.rank(), kRanks, shape).input();
      if (buffer.rank() == kOtherRank) GetParam().differ(input);
      OperationOptions options;
      options.completion = completion;
      buffer.dispatch(input, options).event.wait();
    });
    expect_refusal(attempts, {ErrorCode::kMismatch, kOtherRank, GetParam().texts});
  }
}

void set_topk(DispatchInput& input, DataType dtype, std::int64_t num_topk) {
  input.topk_idx = make_tensor(dtype, {kTokens, num_topk});
  input.topk_weights = make_tensor(DataType::kFloat32, {kTokens, num_topk});
}

void leave_out_topk(DispatchInput& input) {
  DispatchLayout layout;
  layout.num_tokens_per_rank = make_tensor(DataType::kInt32, {kRanks});
  layout.num_tokens_per_expert = make_tensor(DataType::kInt32, {input.num_experts});
  layout.is_token_in_rank = make_tensor(DataType::kBool, {kTokens, kRanks});
  input.layout = layout;
  input.topk_idx.reset();
  input.topk_weights.reset();
}

const Mismatch kMismatches[] = {
    {"DtypeOfX",
     [](DispatchInput& in) {
       in.x = make_tensor(DataType::kFloat16, {kTokens, 24});
     },
     {"the dtype of x", "rank 0 has bfloat16", "rank 1 has float16"}},
    {"Hidden",
     [](DispatchInput& in) {
       in.x = make_tensor(DataType::kBfloat16, {kTokens, 25});
     },
     {"hidden", "rank 0 has 24", "rank 1 has 25"}},
    {"TopK", [](DispatchInput& in) { set_topk(in, DataType::kInt64, 3); }, {"top-k", "rank 0 has 2", "rank 1 has 3"}},
    {"NoTopk", leave_out_topk, {"top-k", "rank 0 has 2", "rank 1 has none"}},
    {"DtypeOfIds",
     [](DispatchInput& in) { set_topk(in, DataType::kInt32, 2); },
     {"the dtype of topk_idx", "rank 0 has int64", "rank 1 has int32"}},
    {"NumberOfScales",
     [](DispatchInput& in) {
       in.x_scales = make_tensor(DataType::kFloat32, {kTokens, 3});
     },
     {"the number of scales", "rank 0 has 2", "rank 1 has 3"}},
    {"NoScales",
     [](DispatchInput& in) { in.x_scales.reset(); },
     {"the number of scales", "rank 0 has 2", "rank 1 has none"}},
    {"DtypeOfScales",
     [](DispatchInput& in) {
       in.x_scales = make_tensor(DataType::kInt32, {kTokens, 2});
     },
     {"the dtype of the scales", "rank 0 has float32", "rank 1 has int32"}},
    {"NumberOfExperts",
     [](DispatchInput& in) { in.num_experts = 7; },
     {"the number of experts", "rank 0 has 6", "rank 1 has 7"}},
    {"WorstCase",
     [](DispatchInput& in) { in.num_worst_tokens = 100; },
     {"num_worst_tokens", "rank 0 has absent", "rank 1 has present"}},
};

std::string name_of_case(const ::testing::TestParamInfo<Mismatch>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Dispatch, MismatchTest, ::testing::ValuesIn(kMismatches), name_of_case);

/// After a dispatch, rank `kOtherRank` does something else than the others.
void expect_mismatch(const std::function<void(Buffer&, const DispatchOutput&)>& as_others,
                     const std::function<void(Buffer&, const DispatchOutput&)>& otherwise,
                     const std::vector<std::string>& texts) {
  const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    (buffer.rank() == kOtherRank ? otherwise : as_others)(buffer, dispatched);
  });
  expect_refusal(attempts, {ErrorCode::kMismatch, kOtherRank, texts});
}

void combine(Buffer& buffer, const DispatchOutput& dispatched) {
  static_cast<void>(buffer.combine(combine_of(dispatched)));
}

void combine_with_weights(Buffer& buffer, const DispatchOutput& dispatched) {
  CombineInput input = combine_of(dispatched);
  input.topk_weights = dispatched.recv_topk_weights;
  static_cast<void>(buffer.combine(input));
}

TEST(MismatchOfCombine, PresenceOfWeights) {
  expect_mismatch(combine, combine_with_weights, {"combine", "rank 0 has", "rank 1 has"});
}

TEST(MismatchOfCombine, WidthOfWeights) {
  const auto wide = [](Buffer& buffer, const DispatchOutput& dispatched) {
    CombineInput input = combine_of(dispatched);
    input.topk_weights = make_tensor(DataType::kFloat32, {dispatched.recv_x.size(0), 4});
    static_cast<void>(buffer.combine(input));
  };
  expect_mismatch(combine_with_weights, wide, {"top-k", "rank 0 has 2", "rank 1 has 4"});
}

TEST(MismatchOfCombine, Dtype) {
  const auto of_float32 = [](Buffer& buffer, const DispatchOutput& dispatched) {
    CombineInput input = combine_of(dispatched);
    input.x = make_tensor(DataType::kFloat32, {dispatched.recv_x.size(0), 24});
    static_cast<void>(buffer.combine(input));
  };
  expect_mismatch(combine, of_float32, {"the dtype of x", "rank 0 has bfloat16", "rank 1 has float32"});
}

TEST(MismatchOfCombine, Hidden) {
  const auto wide = [](Buffer& buffer, const DispatchOutput& dispatched) {
    CombineInput input = combine_of(dispatched);
    input.x = make_tensor(DataType::kBfloat16, {dispatched.recv_x.size(0), 32});
    static_cast<void>(buffer.combine(input));
  };
  expect_mismatch(combine, wide, {"hidden", "rank 0 has 24", "rank 1 has 32"});
}

TEST(MismatchOfOperations, CombineAgainstDispatch) {
  const auto dispatch_again = [](Buffer& buffer, const DispatchOutput&) {
    static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input()));
  };
  expect_mismatch(combine, dispatch_again, {"the operation", "rank 0 has combine", "rank 1 has dispatch"});
}

TEST(MismatchOfOperations, CombineAgainstWorstCaseDispatch) {
  const auto dispatch_again = [](Buffer& buffer, const DispatchOutput&) {
    DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    input.num_worst_tokens = 50;
    static_cast<void>(buffer.dispatch(input));
  };
  expect_mismatch(combine, dispatch_again, {"the operation", "rank 0 has combine", "rank 1 has dispatch"});
}

TEST(MismatchOfOperations, CachedAgainstCombine) {
  const auto cached = [](Buffer& buffer, const DispatchOutput& dispatched) {
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    static_cast<void>(buffer.dispatch(cached_of(input, dispatched)));
  };
  expect_mismatch(combine, cached, {"the operation", "rank 0 has combine", "rank 1 has cached dispatch"});
}

TEST(MismatchOfHandles, DispatchesOfDifferentEpochs) {
  const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    const DispatchOutput first = buffer.dispatch(input);
    const DispatchOutput second = buffer.dispatch(input);
    combine(buffer, buffer.rank() == kOtherRank ? second : first);
  });
  expect_refusal(attempts, {ErrorCode::kMismatch, kOtherRank, {"epoch of the handle", "rank 0 has 1", "rank 1 has 2"}});
}

}  // namespace
}  // namespace crossdock::testing
