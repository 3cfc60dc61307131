// What goes wrong in low-latency mode on a CUDA device ends as on the host, and the buffer or at least the device works
// on.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "core/low_latency_run.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr std::int64_t kTokens = 4;
constexpr std::int64_t kHidden = 256;

LowLatencyDispatchInput make_input(const TensorPlace& place) {
  const std::vector<std::uint16_t> x(static_cast<std::size_t>(kTokens * kHidden), 0x3F80);
  const std::vector<std::int64_t> ids{0, 1, 2, 0};
  LowLatencyDispatchInput input;
  input.x = place.place(make_matrix<std::uint16_t>(DataType::kBfloat16, kHidden, x));
  input.topk_idx = place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, ids));
  input.num_max_dispatch_tokens_per_rank = kTokens;
  input.num_experts = kRanks;
  return input;
}

using Body = std::function<void(Buffer&, const TensorPlace&, LowLatencyDispatchInput)>;

/// Runs `body` on each rank; returns what each threw. A buffer that is usable afterwards must work.
std::vector<std::optional<Error>> attempt(const BufferOptions& options, const Body& body) {
  std::vector<std::optional<Error>> errors(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    const CudaStreamPlace place(bootstrap->rank());
    Buffer buffer(bootstrap, on_device_of(place, options));
    try {
      body(buffer, place, make_input(place));
    } catch (const Error& error) {
      errors[static_cast<std::size_t>(bootstrap->rank())] = error;
    }
    if (!buffer.is_available()) return;
    const LowLatencyWorld world = make_low_latency_world(3, {.num_ranks = kRanks});
    LowLatencyRun(buffer, world, place).run();
  });
  return errors;
}

struct CudaLowLatencyFailures : ::testing::Test {
  void SetUp() override {
    if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  }

  static void expect_on_all(const std::vector<std::optional<Error>>& errors, ErrorCode code, const std::string& text) {
    for (const auto& error : errors) {
      ASSERT_TRUE(error.has_value());
      EXPECT_EQ(name_of(error->code()), name_of(code)) << error->what();
      EXPECT_THAT(error->what(), ::testing::HasSubstr(text));
    }
  }
};

TEST_F(CudaLowLatencyFailures, AnIdThatIsNotAllowedIsNamedOnAllRanks) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace& place, auto input) {
    if (buffer.rank() == 1) {
      input.topk_idx =
          place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, std::vector<std::int64_t>{0, 1, 77, 0}));
    }
    static_cast<void>(buffer.low_latency_dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kInvalidArgument,
                "rank 1: low_latency_dispatch: topk_idx[2][0] is 77; allowed are -1 and 0 to 2");
}

TEST_F(CudaLowLatencyFailures, ARefusedArgumentIsNamedOnAllRanks) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace&, auto input) {
    if (buffer.rank() == 2) input.num_max_dispatch_tokens_per_rank = kTokens - 1;
    static_cast<void>(buffer.low_latency_dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kInvalidArgument, "rank 2: low_latency_dispatch: x has 4 tokens");
}

TEST_F(CudaLowLatencyFailures, RanksThatDisagreeAreNamed) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace&, auto input) {
    if (buffer.rank() == 1) input.num_max_dispatch_tokens_per_rank = kTokens + 1;
    static_cast<void>(buffer.low_latency_dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kMismatch, "num_max_dispatch_tokens_per_rank: rank 0 has 4, rank 1 has 5");
}

TEST_F(CudaLowLatencyFailures, AnArenaThatIsTooSmallIsRefusedOnAllRanks) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace&, auto input) {
    input.num_max_dispatch_tokens_per_rank = std::int64_t{1} << 20U;
    constexpr int kTimes = 100;  // nothing is left behind
    for (int i = 0; i < kTimes; ++i) {
      EXPECT_THROW(static_cast<void>(buffer.low_latency_dispatch(input)), Error);
    }
    static_cast<void>(buffer.low_latency_dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kCapacity, "BufferOptions::arena_bytes");
}

/// A dispatch, and what its combine takes.
LowLatencyCombineInput dispatch_for_combine(Buffer& buffer, const TensorPlace& place, LowLatencyDispatchInput input,
                                            const OperationOptions& options = {}) {
  input.format = RowFormat::kBfloat16;
  const LowLatencyDispatchOutput output = buffer.low_latency_dispatch(input, options);
  LowLatencyCombineInput combine;
  combine.handle = output.handle;
  combine.x = output.packed_recv_x;
  combine.topk_weights = place.place(
      make_matrix<float>(DataType::kFloat32, 1, std::vector<float>(static_cast<std::size_t>(kTokens), 1.0F)));
  return combine;
}

TEST_F(CudaLowLatencyFailures, RanksThatDisagreeOnLogFmtAreNamed) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace& place, auto input) {
    LowLatencyCombineInput combine = dispatch_for_combine(buffer, place, input);
    combine.use_logfmt = buffer.rank() == 1;
    static_cast<void>(buffer.low_latency_combine(combine));
  });
  expect_on_all(errors, ErrorCode::kMismatch, "the row format: rank 0 has bfloat16, rank 1 has LogFMT");
}

TEST_F(CudaLowLatencyFailures, OtherIdsThanTheDispatchsAreNamedOnAllRanks) {
  const std::vector<std::vector<std::int64_t>> others{
      {0, 1, 2, 1}, {0, 1, 2, -1}, {1, 1, 2, 0}, {0, 1, std::int64_t{2} + (std::int64_t{1} << 32U), 0}};
  for (const std::vector<std::int64_t>& other : others) {
    const auto errors = attempt(cuda_low_latency_options(), [&](Buffer& buffer, const TensorPlace& place, auto input) {
      LowLatencyCombineInput combine = dispatch_for_combine(buffer, place, input);
      combine.topk_idx =
          buffer.rank() == 1 ? place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, other)) : input.topk_idx;
      static_cast<void>(buffer.low_latency_combine(combine));
    });
    expect_on_all(
        errors, ErrorCode::kInvalidArgument,
        "rank 1: low_latency_combine: topk_idx has other ids than the dispatch of epoch 1 that the handle is of");
  }
}

TEST_F(CudaLowLatencyFailures, OtherIdsInTheOrderOfAStreamAreThrownLater) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace& place, auto input) {
    OperationOptions options;
    options.completion = Completion::kStream;
    options.stream = place.stream();
    LowLatencyCombineInput combine = dispatch_for_combine(buffer, place, input, options);
    combine.use_logfmt = true;
    combine.topk_idx = input.topk_idx;
    if (buffer.rank() == 2) {
      combine.topk_idx =
          place.place(make_matrix<std::int32_t>(DataType::kInt32, 1, std::vector<std::int32_t>{-1, 1, 2, 0}));
    }
    static_cast<void>(buffer.low_latency_combine(combine, options));
    place.synchronize();
    static_cast<void>(buffer.low_latency_dispatch(input, options));
  });
  expect_on_all(errors, ErrorCode::kInvalidArgument, "rank 2: low_latency_combine: topk_idx has other ids");
}

TEST_F(CudaLowLatencyFailures, IdsThatAreElsewhereAreRefused) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace& place, auto input) {
    LowLatencyCombineInput combine = dispatch_for_combine(buffer, place, input);
    combine.topk_idx = make_matrix<std::int64_t>(DataType::kInt64, 1, std::vector<std::int64_t>{0, 1, 2, 0});
    static_cast<void>(buffer.low_latency_combine(combine));
  });
  for (const auto& error : errors) ASSERT_TRUE(error.has_value());
  EXPECT_THAT(errors[0]->what(), ::testing::HasSubstr("topk_idx lies on"));
}

/// What no one waits for is thrown by the next operation, on all ranks.
TEST_F(CudaLowLatencyFailures, AFailureInTheOrderOfAStreamIsThrownLater) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace& place, auto input) {
    OperationOptions options;
    options.completion = Completion::kStream;
    options.stream = place.stream();
    auto bad = input;
    if (buffer.rank() == 0) {
      bad.topk_idx =
          place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, std::vector<std::int64_t>{-2, 1, 2, 0}));
    }
    static_cast<void>(buffer.low_latency_dispatch(bad, options));
    place.synchronize();
    static_cast<void>(buffer.low_latency_dispatch(input, options));
  });
  expect_on_all(errors, ErrorCode::kInvalidArgument, "topk_idx[0][0] is -2");
}

TEST_F(CudaLowLatencyFailures, ARankThatNeverComesIsATimeoutAndTheDeviceWorksOn) {
  BufferOptions options = cuda_low_latency_options();
  options.timeout = Milliseconds{300};
  const auto errors = attempt(options, [](Buffer& buffer, const TensorPlace&, auto input) {
    if (buffer.rank() == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1500));
      buffer.destroy();
      return;
    }
    static_cast<void>(buffer.low_latency_dispatch(input));
  });
  for (const int rank : {0, 1}) {
    const auto& error = errors[static_cast<std::size_t>(rank)];
    ASSERT_TRUE(error.has_value());
    EXPECT_TRUE(error->code() == ErrorCode::kTimeout || error->code() == ErrorCode::kPeerLost) << error->what();
  }
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  attempt(cuda_low_latency_options(), [](Buffer&, const TensorPlace&, const LowLatencyDispatchInput&) {});
}

/// Dropped without a call: an error of the next operation on all ranks, and then the group goes on.
TEST_F(CudaLowLatencyFailures, ADroppedHookIsAnErrorOfTheNextOperation) {
  const auto errors = attempt(cuda_low_latency_options(), [](Buffer& buffer, const TensorPlace& place, auto input) {
    OperationOptions options;
    options.completion = Completion::kHook;
    options.stream = place.stream();
    {
      const LowLatencyDispatchOutput output = buffer.low_latency_dispatch(input, options);
      if (buffer.rank() != 0) output.hook();
    }
    static_cast<void>(buffer.low_latency_dispatch(input));
  });
  expect_on_all(errors, ErrorCode::kState, "was dropped without a call");
}

}  // namespace
}  // namespace crossdock::testing
