// What goes wrong in a dispatch whose kernel is launched before it is known where rows go, as it is where ranks are
// processes: the error is that of the host on all ranks, and the next dispatch is right.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kOther = 1;  ///< the rank that does something else
constexpr std::int64_t kHidden = 256;

/// Each token goes to all ranks; elements are the rank and the token.
DispatchInput make_input(const TensorPlace& place, int rank, std::int64_t num_tokens, std::int64_t bad_id = -1) {
  std::vector<std::int32_t> x;
  std::vector<std::int64_t> ids;
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    x.insert(x.end(), kHidden, static_cast<std::int32_t>(rank * num_tokens + t));
    for (int expert = 0; expert < kRanks; ++expert) ids.push_back(expert);
  }
  if (bad_id >= 0) ids.back() = bad_id;
  DispatchInput input;
  input.x = place.place(make_matrix<std::int32_t>(DataType::kInt32, kHidden, x));
  input.topk_idx = place.place(make_matrix<std::int64_t>(DataType::kInt64, kRanks, ids));
  input.topk_weights = place.place(make_matrix<float>(DataType::kFloat32, kRanks, std::vector<float>(ids.size(), 1)));
  input.num_experts = kRanks;
  input.config = Config{.num_sms = 2};  // within each rank's share, also in the emulator
  return input;
}

/// Throws unless every rank receives all tokens of all.
void dispatch_and_check(Buffer& buffer, const TensorPlace& place) {
  constexpr std::int64_t kTokens = 20;
  const DispatchOutput output = buffer.dispatch(make_input(place, buffer.rank(), kTokens));
  const Tensor rows = place.fetch(output.recv_x);
  if (rows.size(0) != kRanks * kTokens) throw std::runtime_error("received " + output.recv_x.description());
  for (std::int64_t i = 0; i < rows.num_elements(); ++i) {
    if (rows.data_as<std::int32_t>()[i] != i / kHidden) throw std::runtime_error("a row is wrong");
  }
}

using Attempt = std::function<void(Buffer&, const TensorPlace&)>;

/// Has `attempt` between dispatches of each rank, which must go well.
void expect_right_again(const Attempt& attempt) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  const auto statuses = run_as_processes(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    constexpr int kTimes = 3;
    const CudaPlace place(bootstrap->rank());
    Buffer buffer(bootstrap, on_device_of(place, buffer_options_for(kRanks)));
    for (int i = 0; i < kTimes; ++i) {
      dispatch_and_check(buffer, place);
      attempt(buffer, place);
    }
    dispatch_and_check(buffer, place);
  });
  EXPECT_EQ(statuses, std::vector<ExitStatus>(kRanks));
}

/// Throws unless the dispatch does so.
void expect_thrown(Buffer& buffer, const DispatchInput& input, ErrorCode code, std::string_view text) {
  try {
    static_cast<void>(buffer.dispatch(input));
  } catch (const Error& error) {
    if (error.code() == code && std::string_view(error.what()).find(text) != std::string_view::npos) return;
    throw;
  }
  throw std::runtime_error("a dispatch went well");
}

TEST(CudaFailuresOfProcesses, AnIdThatIsNotAllowed) {
  expect_right_again([](Buffer& buffer, const TensorPlace& place) {
    const DispatchInput input = make_input(place, buffer.rank(), 5, buffer.rank() == kOther ? 77 : -1);
    expect_thrown(buffer, input, ErrorCode::kInvalidArgument, "topk_idx[4][2] is 77; allowed are -1 and 0 to 2");
  });
}

TEST(CudaFailuresOfProcesses, RanksThatDisagree) {
  expect_right_again([](Buffer& buffer, const TensorPlace& place) {
    DispatchInput input = make_input(place, buffer.rank(), 5);
    if (buffer.rank() == kOther) input.num_experts = kRanks + 1;
    expect_thrown(buffer, input, ErrorCode::kMismatch, "");
  });
}

TEST(CudaFailuresOfProcesses, AnArenaWithoutRoom) {
  expect_right_again([](Buffer& buffer, const TensorPlace& place) {
    const auto rows = static_cast<std::int64_t>(buffer.arena_bytes_total() / (kHidden * sizeof(std::int32_t)));
    const DispatchInput input = make_input(place, buffer.rank(), buffer.rank() == kOther ? rows : 1);
    expect_thrown(buffer, input, ErrorCode::kCapacity, "has no room for what it would receive");
  });
}

TEST(CudaFailuresOfProcesses, ARankThatComesLate) {
  expect_right_again([](Buffer& buffer, const TensorPlace& place) {
    constexpr std::chrono::milliseconds kLate{30};
    if (buffer.rank() == kOther) std::this_thread::sleep_for(kLate);
    dispatch_and_check(buffer, place);
  });
}

}  // namespace
}  // namespace crossdock::testing
