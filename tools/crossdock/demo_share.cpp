#include "crossdock/demo_share.hpp"

#include <algorithm>

#include "base/bfloat16.hpp"

namespace crossdock::tool {

DemoShare::DemoShare(const MoeLayer& layer, const DemoShared& shared, int rank)
    : layer_(layer),
      shared_(shared),
      rank_(rank),
      first_(first_token(layer.num_tokens, shared.num_ranks, rank)),
      num_tokens_(first_token(layer.num_tokens, shared.num_ranks, rank + 1) - first_) {}

Tensor DemoShare::x() const {
  const void* rows = layer_.x.data() + static_cast<std::size_t>(first_ * layer_.hidden);
  return Tensor::borrow(rows, DataType::kBfloat16, {num_tokens_, layer_.hidden});
}

Tensor DemoShare::topk_idx() const {
  const void* ids = layer_.topk_idx.data() + static_cast<std::size_t>(first_ * layer_.num_topk);
  return Tensor::borrow(ids, DataType::kInt64, {num_tokens_, layer_.num_topk});
}

Tensor DemoShare::topk_weights() const {
  const void* weights = layer_.topk_weights.data() + static_cast<std::size_t>(first_ * layer_.num_topk);
  return Tensor::borrow(weights, DataType::kFloat32, {num_tokens_, layer_.num_topk});
}

void DemoShare::enter(DemoStage stage) const {
  shared_.stages[static_cast<std::size_t>(rank_)].store(static_cast<int>(stage), std::memory_order_relaxed);
}

void DemoShare::write_result(const Tensor& combined) const {
  const auto size = static_cast<std::size_t>(combined.num_elements());
  float* out = shared_.y.values().subspan(static_cast<std::size_t>(first_ * layer_.hidden), size).data();
  if (combined.dtype() == DataType::kFloat32) {
    std::copy_n(combined.data_as<float>(), size, out);
  } else {
    std::transform(combined.data_as<Bfloat16>(), combined.data_as<Bfloat16>() + size, out, to_float);
  }
}

}  // namespace crossdock::tool
