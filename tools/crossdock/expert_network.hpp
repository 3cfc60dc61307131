// The experts of the recorded layer: two small matrices, a gate, and a third matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <crossdock/buffer.hpp>

#include "crossdock/moe_layer.hpp"

namespace crossdock::tool {

/// The experts of one rank, weights widened to float32 and transposed so that plain loops vectorize.
class ExpertNetwork {
 public:
  ExpertNetwork(const MoeLayer& layer, Buffer::ExpertRange experts);

  /// out[row] = sum over the row's local experts of weight * (silu(x w_gate^T) * (x w_up^T)) w_down^T, in float32.
  /// `x` is bfloat16 [M, H], `topk_idx` int64 [M, K] local ids or -1, `topk_weights` float32 [M, K]; `out` [M, H].
  void run(const Tensor& x, const Tensor& topk_idx, const Tensor& topk_weights, std::span<float> out) const;
  /// out = (silu(x w_gate^T) * (x w_up^T)) w_down^T of one local expert, in float32. `x` and `out` have H elements.
  void answer(std::size_t expert, std::span<const Bfloat16> x, std::span<float> out) const;

 private:
  struct Expert {
    std::vector<float> gate;  ///< [H, I]
    std::vector<float> up;    ///< [H, I]
    std::vector<float> down;  ///< [I, H]
  };
  /// A row that selects an expert, and its weight.
  struct Selection {
    std::size_t row;
    float weight;
  };

  [[nodiscard]] std::vector<std::vector<Selection>> group_by_expert(const Tensor& topk_idx,
                                                                    const Tensor& topk_weights) const;
  void add_answer(const Expert& expert, std::span<const Bfloat16> x, float weight, std::span<float> out) const;

  std::size_t hidden_;
  std::size_t inner_;
  std::vector<Expert> experts_;
};

}  // namespace crossdock::tool
