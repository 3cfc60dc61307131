// What goes wrong on a CUDA device ends as on the host, and the device works on.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>

#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr std::int64_t kTokens = 6;
constexpr std::int64_t kHidden = 8;

const std::string& why_not() {
  static const std::string reason = why_no_cuda_device();
  return reason;
}

BufferOptions cuda_options() {
  BufferOptions options = buffer_options_for(kRanks);
  options.timeout = Milliseconds{10'000};
  return options;
}

std::int32_t element(int rank, std::int64_t token) {
  return static_cast<std::int32_t>(std::int64_t{100} * rank + token);
}

/// Token t goes to expert t mod R, which rank t mod R owns.
DispatchInput make_input(int rank, std::int64_t bad_id = -1) {
  std::vector<std::int32_t> x;
  std::vector<std::int64_t> ids;
  for (std::int64_t t = 0; t < kTokens; ++t) {
    x.insert(x.end(), kHidden, element(rank, t));
    ids.push_back(t % kRanks);
  }
  if (bad_id >= 0) ids[4] = bad_id;
  const std::vector<float> weights(kTokens, 1.0F);
  const CudaPlace place(rank);
  DispatchInput input;
  input.x = place.place(make_matrix<std::int32_t>(DataType::kInt32, kHidden, x));
  input.topk_idx = place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, ids));
  input.topk_weights = place.place(make_matrix<float>(DataType::kFloat32, 1, weights));
  input.num_experts = kRanks;
  return input;
}

/// Throws unless the rows are those of make_input.
void check_output(int rank, const DispatchOutput& output) {
  const Tensor rows = CudaPlace(rank).fetch(output.recv_x);
  if (rows.size(0) != kTokens) throw std::runtime_error("received " + output.recv_x.description());
  for (std::int64_t row = 0; row < kTokens; ++row) {
    constexpr std::int64_t kFromEach = kTokens / kRanks;
    const auto expected = element(static_cast<int>(row / kFromEach), row % kFromEach * kRanks + rank);
    for (std::int64_t c = 0; c < kHidden; ++c) {
      const std::int32_t got = rows.data_as<std::int32_t>()[row * kHidden + c];
      if (got != expected) {
        throw std::runtime_error("row " + std::to_string(row) + " has " + std::to_string(got) + ", not " +
                                 std::to_string(expected));
      }
    }
  }
}

/// Runs `body` on each rank; returns what each threw.
std::vector<std::optional<Error>> attempt(const BufferOptions& options, const std::function<void(Buffer&)>& body) {
  std::vector<std::optional<Error>> errors(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, on_device_of(CudaPlace(bootstrap->rank()), options));
    try {
      body(buffer);
    } catch (const Error& error) {
      errors[static_cast<std::size_t>(bootstrap->rank())] = error;
    }
    if (!buffer.is_available()) return;
    check_output(buffer.rank(), buffer.dispatch(make_input(buffer.rank())));
  });
  return errors;
}

struct CudaFailures : ::testing::Test {
  void SetUp() override {
    if (!why_not().empty()) GTEST_SKIP() << why_not();
  }

  static void expect_on_all(const std::vector<std::optional<Error>>& errors, ErrorCode code, const std::string& text) {
    for (const auto& error : errors) {
      ASSERT_TRUE(error.has_value());
      EXPECT_EQ(name_of(error->code()), name_of(code)) << error->what();
      EXPECT_THAT(error->what(), ::testing::HasSubstr(text));
    }
  }

  /// Rank 2 leaves without having dispatched what `make` gives for each rank.
  static void expect_timeout(const std::function<DispatchInput(int)>& make) {
    BufferOptions options = cuda_options();
    options.timeout = Milliseconds{300};
    const auto errors = attempt(options, [&](Buffer& buffer) {
      if (buffer.rank() == 2) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1500));
        buffer.destroy();
        return;
      }
      static_cast<void>(buffer.dispatch(make(buffer.rank())));
    });
    for (const int rank : {0, 1}) {
      const auto& error = errors[static_cast<std::size_t>(rank)];
      ASSERT_TRUE(error.has_value());
      EXPECT_TRUE(error->code() == ErrorCode::kTimeout || error->code() == ErrorCode::kPeerLost) << error->what();
    }
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
};

TEST_F(CudaFailures, AnIdThatIsNotAllowedIsNamedOnAllRanks) {
  const auto errors = attempt(cuda_options(), [](Buffer& buffer) {
    static_cast<void>(buffer.dispatch(make_input(buffer.rank(), buffer.rank() == 1 ? 77 : -1)));
  });
  expect_on_all(errors, ErrorCode::kInvalidArgument, "topk_idx[4][0] is 77; allowed are -1 and 0 to 2");
}

/// Where rows of an expanded dispatch go follows from the ids, not from the caller's counts.
TEST_F(CudaFailures, ALayoutThatCountsOtherSelectionsThanAnExpandedDispatchIsRefusedOnAllRanks) {
  const auto errors = attempt(cuda_options(), [](Buffer& buffer) {
    DispatchInput input = make_input(buffer.rank());
    input.expand = true;
    input.layout = buffer.get_dispatch_layout(*input.topk_idx, kRanks);
    const std::vector<std::int32_t> counts{2, buffer.rank() == 1 ? 50 : 2, 2};
    input.layout->num_tokens_per_expert =
        CudaPlace(buffer.rank()).place(Tensor::borrow(counts.data(), DataType::kInt32, {kRanks}));
    static_cast<void>(buffer.dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kInvalidArgument,
                "num_tokens_per_expert says 50 for expert 1, but topk_idx selects it 2 times");
}

TEST_F(CudaFailures, AnIdThatIsNotAllowedInAnExpandedDispatchIsNamedOnAllRanks) {
  const auto errors = attempt(cuda_options(), [](Buffer& buffer) {
    DispatchInput input = make_input(buffer.rank(), buffer.rank() == 1 ? 77 : -1);
    input.expand = true;
    static_cast<void>(buffer.dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kInvalidArgument, "topk_idx[4][0] is 77; allowed are -1 and 0 to 2");
}

TEST_F(CudaFailures, AnArenaThatIsTooSmallIsRefusedOnAllRanks) {
  BufferOptions options = cuda_options();
  options.arena_bytes = 4096;
  const auto errors = attempt(options, [](Buffer& buffer) {
    DispatchInput input = make_input(buffer.rank());
    input.x = CudaPlace(buffer.rank())
                  .place(make_matrix<std::int32_t>(
                      DataType::kInt32, 1000, std::vector<std::int32_t>(static_cast<std::size_t>(kTokens) * 1000)));
    static_cast<void>(buffer.dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kCapacity, "BufferOptions::arena_bytes");
}

TEST_F(CudaFailures, ARankThatNeverComesIsATimeoutAndTheDeviceWorksOn) {
  expect_timeout([](int rank) { return make_input(rank); });
  attempt(cuda_options(), [](Buffer&) {});
}

/// Of dispatches with a worst case, which go without the host. What no one waited for is thrown by the next one.
struct CudaWorstCaseFailures : CudaFailures {
  static DispatchInput make_worst_case(int rank, std::int64_t num_worst_tokens, std::int64_t bad_id = -1) {
    DispatchInput input = make_input(rank, bad_id);
    input.num_worst_tokens = num_worst_tokens;
    return input;
  }

  /// A rank gets six rows of its one expert.
  static DispatchInput make_expanded(int rank, int alignment, std::int64_t num_worst_tokens, std::int64_t bad_id = -1) {
    DispatchInput input = make_worst_case(rank, num_worst_tokens, bad_id);
    input.expand = true;
    input.expert_alignment = alignment;
    return input;
  }

  /// The counts are those of ranks and of experts.
  static DispatchLayout make_layout(int rank, const std::vector<std::int32_t>& counts,
                                    const std::vector<std::uint8_t>& membership) {
    const CudaPlace place(rank);
    DispatchLayout layout;
    layout.num_tokens_per_rank = place.place(Tensor::borrow(counts.data(), DataType::kInt32, {kRanks}));
    layout.num_tokens_per_expert = layout.num_tokens_per_rank;
    layout.is_token_in_rank = place.place(make_matrix<std::uint8_t>(DataType::kUint8, kRanks, membership));
    return layout;
  }

  /// With the operation waited for, and with the next one.
  static void expect_error(const std::function<DispatchInput(int)>& make, ErrorCode code, const std::string& text) {
    expect_on_all(
        attempt(cuda_options(), [&](Buffer& buffer) { static_cast<void>(buffer.dispatch(make(buffer.rank()))); }), code,
        text);
    const auto errors = attempt(cuda_options(), [&](Buffer& buffer) {
      const CudaStreamPlace place(buffer.rank());
      OperationOptions options;
      options.completion = Completion::kStream;
      options.stream = place.stream();
      const DispatchInput given = make(buffer.rank());  // read later
      const DispatchOutput output = buffer.dispatch(given, options);
      // A rank may know of it before this or not, so that each makes a call again that was none.
      std::optional<Error> heard;
      const auto combine = [&](const OperationOptions& how) {
        const CombineInput input{.x = buffer.combine_input(output.handle, kHidden), .handle = output.handle};
        try {
          static_cast<void>(buffer.combine(input, how));
        } catch (const Error& error) {
          heard = error;
          static_cast<void>(buffer.combine(input, how));
        }
      };
      combine(options);
      place.synchronize();
      combine({});
      if (heard) throw Error(*heard);
    });
    expect_on_all(errors, code, text);
  }
};

TEST_F(CudaWorstCaseFailures, TooManyRows) {
  const auto make = [](int rank) { return make_worst_case(rank, rank == 1 ? kTokens - 1 : kTokens); };
  expect_error(make, ErrorCode::kCapacity, "rank 1 would receive 6 tokens, but num_worst_tokens is 5 there");
}

TEST_F(CudaWorstCaseFailures, AnIdThatIsNotAllowed) {
  const auto make = [](int rank) { return make_worst_case(rank, kTokens, rank == 1 ? 77 : -1); };
  expect_error(make, ErrorCode::kInvalidArgument, "rank 1: dispatch: topk_idx[4][0] is 77; allowed are -1 and 0 to 2");
}

TEST_F(CudaWorstCaseFailures, TooManyRowsWithThePaddingOfGroups) {
  const auto make = [](int rank) { return make_expanded(rank, 4, rank == 1 ? kTokens + 1 : kTokens + 2); };
  expect_error(make, ErrorCode::kCapacity, "rank 1 would receive 8 tokens, but num_worst_tokens is 7 there");
}

TEST_F(CudaWorstCaseFailures, AnIdThatIsNotAllowedInAnExpandedDispatch) {
  const auto make = [](int rank) { return make_expanded(rank, 1, kTokens, rank == 1 ? 77 : -1); };
  expect_error(make, ErrorCode::kInvalidArgument, "rank 1: dispatch: topk_idx[4][0] is 77; allowed are -1 and 0 to 2");
}

TEST_F(CudaWorstCaseFailures, RanksThatDisagreeOnGroups) {
  const auto make = [](int rank) { return make_expanded(rank, rank == 2 ? 2 : 1, kTokens); };
  expect_error(make, ErrorCode::kMismatch, "the expert_alignment of an expanded dispatch");
  const auto make_some = [](int rank) {
    return rank == 2 ? make_worst_case(rank, kTokens) : make_expanded(rank, 1, kTokens);
  };
  expect_error(make_some, ErrorCode::kMismatch, "expand");
}

TEST_F(CudaWorstCaseFailures, ALayoutThatCountsOtherSelectionsThanAnExpandedDispatch) {
  const auto make = [](int rank) {
    DispatchInput input = make_expanded(rank, 1, kTokens);
    const std::vector<std::uint8_t> membership(static_cast<std::size_t>(kTokens) * kRanks);
    input.layout = make_layout(rank, {2, rank == 1 ? 50 : 2, 2}, membership);
    return input;
  };
  expect_error(make, ErrorCode::kInvalidArgument,
               "num_tokens_per_expert says 50 for expert 1, but topk_idx selects it 2 times");
}

TEST_F(CudaWorstCaseFailures, ALayoutThatDisagreesWithItself) {
  const auto make = [](int rank) {
    DispatchInput input = make_worst_case(rank, kTokens);
    std::vector<std::uint8_t> membership;
    for (std::int64_t t = 0; t < kTokens; ++t) {
      for (int r = 0; r < kRanks; ++r) membership.push_back(t % kRanks == r ? 1 : 0);
    }
    input.layout = make_layout(rank, {2, rank == 0 ? 3 : 2, 2}, membership);
    return input;
  };
  expect_error(make, ErrorCode::kInvalidArgument,
               "num_tokens_per_rank says 3 tokens for rank 1, but is_token_in_rank has 2");
}

TEST_F(CudaWorstCaseFailures, RanksThatDisagree) {
  const auto make = [](int rank) {
    DispatchInput input = make_worst_case(rank, kTokens);
    if (rank == 2) {
      const std::vector<std::int32_t> x(static_cast<std::size_t>(kTokens * (kHidden + 1)));
      input.x = CudaPlace(rank).place(make_matrix<std::int32_t>(DataType::kInt32, kHidden + 1, x));
    }
    return input;
  };
  expect_error(make, ErrorCode::kMismatch, "ranks disagree on hidden: rank 0 has 8, rank 2 has 9");
}

/// One of them goes through the host.
TEST_F(CudaWorstCaseFailures, RanksThatDisagreeOnTheWorstCase) {
  const auto errors = attempt(cuda_options(), [](Buffer& buffer) {
    try {
      static_cast<void>(buffer.dispatch(buffer.rank() == 1 ? make_input(1) : make_worst_case(buffer.rank(), kTokens)));
    } catch (const Error& error) {
      try {
        static_cast<void>(buffer.dispatch(make_worst_case(buffer.rank(), kTokens)));  // both kinds go on
      } catch (const Error& next) {
        throw Error(next.code(), std::string(next.what()) + ", after: " + error.what(), next.where());
      }
      throw;
    }
  });
  expect_on_all(errors, ErrorCode::kMismatch, "rank 1: dispatch: rank 0 has called something else");
}

/// Wrong on the host already.
TEST_F(CudaWorstCaseFailures, ARefusalReachesAllRanks) {
  const auto errors = attempt(cuda_options(), [](Buffer& buffer) {
    DispatchInput input = make_worst_case(buffer.rank(), kTokens);
    if (buffer.rank() == 1) input.expert_alignment = 0;
    static_cast<void>(buffer.dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kInvalidArgument, "expert_alignment is 0");
}

TEST_F(CudaWorstCaseFailures, ARankThatNeverComesIsATimeoutAndTheDeviceWorksOn) {
  expect_timeout([](int rank) { return make_worst_case(rank, kTokens); });
}

/// A row that is written by the caller's stream after the call has begun.
TEST_F(CudaFailures, AnOperationStartsAfterWhatTheCallersStreamHolds) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    const CudaPlace place(bootstrap->rank());
    Buffer buffer(bootstrap, on_device_of(place, cuda_options()));
    const DispatchInput input = make_input(buffer.rank());
    const Tensor late = place.fetch(input.x);
    check(cudaMemset(input.x.data(), 0, input.x.num_bytes()));
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check(cudaLaunchHostFunc(
        stream, [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(200)); }, nullptr));
    check(cudaMemcpyAsync(input.x.data(), late.data(), late.num_bytes(), cudaMemcpyHostToDevice, stream));
    OperationOptions options;
    options.stream = {place.device(), stream};
    check_output(buffer.rank(), buffer.dispatch(input, options));
    check(cudaStreamDestroy(stream));
  });
}

}  // namespace
}  // namespace crossdock::testing
