// The kernel that sends rows does so whenever it gets its order: before it is launched, while it waits, or too late.
#include "backend/cuda/ordered_send.hpp"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backend/cuda/arrays.hpp"
#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/device_probe.hpp"

namespace crossdock::testing {
namespace {

constexpr std::int64_t kTokens = 50;
constexpr std::int64_t kHidden = 60;  ///< of int32
constexpr std::size_t kElements = std::size_t{kTokens} * kHidden;
constexpr int kBlocks = 5;

/// Token t goes to rank t mod R, whose rows lie in memory of this process.
class Sender {
 public:
  explicit Sender(int num_ranks)
      : num_ranks_(num_ranks),
        stream_(std::make_shared<cuda::CommunicationStream>(0, cuda::OrderedSend::order_words(num_ranks))),
        x_(cuda::make_device_array<std::int32_t>(kElements)),
        rows_(cuda::make_device_array<std::int32_t>(static_cast<std::size_t>(kTokens) *
                                                    static_cast<std::size_t>(num_ranks))),
        received_(cuda::make_device_array<std::int32_t>(kElements)) {
    std::vector<std::int32_t> rows(static_cast<std::size_t>(kTokens) * static_cast<std::size_t>(num_ranks), -1);
    for (std::int64_t token = 0; token < kTokens; ++token) {
      rows[static_cast<std::size_t>(token * num_ranks + token % num_ranks)] =
          static_cast<std::int32_t>(token / num_ranks);
      for (std::int64_t i = 1; i <= kHidden; ++i) values_.push_back(static_cast<std::int32_t>(token * kHidden + i));
    }
    check(cudaMemcpy(x_.get(), values_.data(), values_.size() * sizeof(values_[0]), cudaMemcpyHostToDevice));
    check(cudaMemcpy(rows_.get(), rows.data(), rows.size() * sizeof(rows[0]), cudaMemcpyHostToDevice));
  }

  [[nodiscard]] std::unique_ptr<cuda::OrderedSend> make() const {
    cuda::device::SendArgs args;
    args.num_tokens = kTokens;
    args.num_ranks = num_ranks_;
    args.rows = rows_.get();
    args.x = reinterpret_cast<const std::byte*>(x_.get());
    args.row_bytes = args.x_stride = kHidden * sizeof(std::int32_t);
    return std::make_unique<cuda::OrderedSend>(stream_, args, kBlocks);
  }

  void run(cuda::OrderedSend& send) const {
    cuda::device::SendTable table;
    std::int32_t* next = received_.get();
    for (int rank = 0; rank < num_ranks_; ++rank) {
      table.ranks |= std::uint64_t{1} << static_cast<unsigned>(rank);
      table.destinations[rank].x = reinterpret_cast<std::byte*>(next);
      next += (kTokens - rank + num_ranks_ - 1) / num_ranks_ * kHidden;
    }
    send.run(table, Deadline(std::chrono::seconds(20)));
  }

  /// Takes it away.
  [[nodiscard]] std::vector<std::int32_t> received() const {
    std::vector<std::int32_t> result(kElements);
    check(cudaMemcpy(result.data(), received_.get(), result.size() * sizeof(result[0]), cudaMemcpyDeviceToHost));
    check(cudaMemset(received_.get(), 0, result.size() * sizeof(result[0])));
    check(cudaDeviceSynchronize());
    return result;
  }
  [[nodiscard]] std::vector<std::int32_t> expected() const {
    std::vector<std::int32_t> result;
    for (int rank = 0; rank < num_ranks_; ++rank) {
      for (std::int64_t token = rank; token < kTokens; token += num_ranks_) {
        const auto begin = values_.begin() + token * kHidden;
        result.insert(result.end(), begin, begin + kHidden);
      }
    }
    return result;
  }

 private:
  int num_ranks_;
  std::shared_ptr<cuda::CommunicationStream> stream_;
  cuda::DeviceArray<std::int32_t> x_;
  cuda::DeviceArray<std::int32_t> rows_;
  cuda::DeviceArray<std::int32_t> received_;
  std::vector<std::int32_t> values_;
};

/// Runs `body` on a device, for some numbers of ranks.
void for_each_sender(const std::function<void(const Sender&)>& body) {
  for (const int num_ranks : {1, 2, 7, 64}) {
    SCOPED_TRACE(std::to_string(num_ranks) + " ranks");
    body(Sender(num_ranks));
  }
}

class OrderedSendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why_not = why_no_cuda_device(); !why_not.empty()) GTEST_SKIP() << why_not;
  }
};

TEST_F(OrderedSendTest, OrderBeforeTheLaunch) {
  for_each_sender([](const Sender& sender) {
    sender.run(*sender.make());
    EXPECT_EQ(sender.received(), sender.expected());
  });
}

TEST_F(OrderedSendTest, OrderAfterTheLaunch) {
  for_each_sender([](const Sender& sender) {
    const auto send = sender.make();
    send->launch_ahead();
    sender.run(*send);
    EXPECT_EQ(sender.received(), sender.expected());
  });
}

TEST_F(OrderedSendTest, OrderThatComesTooLateIsCarriedOutByAnotherKernel) {
  for_each_sender([](const Sender& sender) {
    const auto send = sender.make();
    send->launch_ahead();
    check(cudaDeviceSynchronize());  // it does not wait for ever
    sender.run(*send);
    EXPECT_EQ(sender.received(), sender.expected());
  });
}

TEST_F(OrderedSendTest, NothingIsSentWithoutAnOrder) {
  constexpr int kRounds = 5;
  constexpr int kKernels = 30;  // in all more than can be waited for at once
  for_each_sender([](const Sender& sender) {
    for (int round = 0; round < kRounds; ++round) {
      for (int i = 0; i < kKernels; ++i) sender.make()->launch_ahead();
      check(cudaDeviceSynchronize());
    }
    EXPECT_EQ(sender.received(), std::vector<std::int32_t>(kElements, 0));
    sender.run(*sender.make());
    EXPECT_EQ(sender.received(), sender.expected());
  });
}

}  // namespace
}  // namespace crossdock::testing
