// Ranks on CUDA devices that are left out and come back.
#pragma once

#include <barrier>
#include <cstddef>
#include <functional>
#include <vector>

#include <crossdock/buffer.hpp>

#include "core/world_run.hpp"
#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// Every rank reaches every point, whatever happens before.
class Points {
 public:
  explicit Points(int num_ranks) : barrier_(num_ranks) {}
  void reach() { barrier_.arrive_and_wait(); }
  /// The rest of them are reached without this rank.
  void leave() { barrier_.arrive_and_drop(); }

 private:
  std::barrier<> barrier_;
};

/// Room for worlds of both modes.
[[nodiscard]] BufferOptions cuda_mask_options(int num_ranks);

/// Runs `body` on each rank, which is a thread, with a buffer that `options_of` its rank say how to make.
void run_ranks(int num_ranks, const std::function<BufferOptions(int)>& options_of,
               const std::function<void(Buffer&, const TensorPlace&, Points&)>& body);

/// The first `count` random worlds of so many ranks.
[[nodiscard]] std::vector<RandomWorld> random_worlds_of(int num_ranks, std::size_t count);
/// Throws what run_world finds.
void run_world_or_throw(Buffer& buffer, const RandomWorld& world, const RandomWorld& expected,
                        const TensorPlace& place);

/// Throws unless `body` ends with kState.
void expect_state_error(const std::function<void()>& body);

}  // namespace crossdock::testing
