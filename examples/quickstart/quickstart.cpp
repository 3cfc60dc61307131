// Two ranks, here threads of one process, send each token to the rank that owns its expert and get the result back.
#include <cstdint>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include <crossdock/crossdock.hpp>

void run_rank(const std::shared_ptr<crossdock::Bootstrap>& bootstrap) {
  crossdock::Buffer buffer(bootstrap, {.arena_bytes = 1 << 20});
  const int rank = buffer.rank();

  // Two tokens of four channels. Token t wants expert t; of two experts rank r owns expert r.
  std::vector<float> x(2 * 4, static_cast<float>(1 + rank));
  std::vector<std::int64_t> ids = {0, 1};
  std::vector<float> weights = {1.0F, 1.0F};
  crossdock::DispatchInput input;
  input.x = crossdock::Tensor::borrow(x.data(), crossdock::DataType::kFloat32, {2, 4});
  input.topk_idx = crossdock::Tensor::borrow(ids.data(), crossdock::DataType::kInt64, {2, 1});
  input.topk_weights = crossdock::Tensor::borrow(weights.data(), crossdock::DataType::kFloat32, {2, 1});
  input.num_experts = 2;
  const crossdock::DispatchOutput received = buffer.dispatch(input);

  // The expert: expert 0 multiplies by 10, expert 1 by 20. What lies in this tensor is summed without another copy.
  const auto y = buffer.combine_input(received.handle, 4, crossdock::DataType::kFloat32);
  for (std::int64_t i = 0; i < y.num_elements(); ++i) {
    y.data_as<float>()[i] = received.recv_x.data_as<float>()[i] * static_cast<float>(10 * (rank + 1));
  }

  crossdock::CombineInput output;
  output.x = y;
  output.handle = received.handle;
  const crossdock::CombineOutput combined = buffer.combine(output);
  const auto* row = combined.combined_x.data_as<float>();
  std::printf("rank %d received %d rows; its tokens came back as %g and %g\n", rank,
              static_cast<int>(received.handle.num_recv_tokens()), row[0], row[4]);
}

int main() {
  std::vector<std::jthread> ranks;
  for (const auto& bootstrap : crossdock::make_in_process_bootstraps(2)) ranks.emplace_back(run_rank, bootstrap);
}
