#include "crossdock/expert_network.hpp"

#include <algorithm>
#include <cmath>

namespace crossdock::tool {

namespace {

/// Row-major [rows, columns] of bfloat16 as [columns, rows] of float32.
std::vector<float> transpose(std::span<const Bfloat16> matrix, std::size_t rows, std::size_t columns) {
  std::vector<float> result(rows * columns);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = 0; column < columns; ++column) {
      result[column * rows + row] = to_float(matrix[row * columns + column]);
    }
  }
  return result;
}

/// out[j] += factor * row[j]
void add_scaled(float factor, const float* row, std::span<float> out) {
  float* sums = out.data();
  for (std::size_t j = 0; j < out.size(); ++j) sums[j] += factor * row[j];
}

float silu(float value) { return value / (1.0F + std::exp(-value)); }

}  // namespace

ExpertNetwork::ExpertNetwork(const MoeLayer& layer, Buffer::ExpertRange experts)
    : hidden_(static_cast<std::size_t>(layer.hidden)), inner_(static_cast<std::size_t>(layer.inner)) {
  const std::size_t size = hidden_ * inner_;
  for (int expert = experts.begin; expert < experts.begin + experts.count; ++expert) {
    const std::size_t begin = static_cast<std::size_t>(expert) * size;
    experts_.push_back({transpose(layer.w_gate.subspan(begin, size), inner_, hidden_),
                        transpose(layer.w_up.subspan(begin, size), inner_, hidden_),
                        transpose(layer.w_down.subspan(begin, size), hidden_, inner_)});
  }
}

void ExpertNetwork::run(const Tensor& x, const Tensor& topk_idx, const Tensor& topk_weights,
                        std::span<float> out) const {
  std::fill(out.begin(), out.end(), 0.0F);
  const auto selections = group_by_expert(topk_idx, topk_weights);
  for (std::size_t expert = 0; expert < experts_.size(); ++expert) {
    for (const auto& [row, weight] : selections[expert]) {
      add_answer(experts_[expert], {x.data_as<Bfloat16>() + row * hidden_, hidden_}, weight,
                 out.subspan(row * hidden_, hidden_));
    }
  }
}

void ExpertNetwork::answer(std::size_t expert, std::span<const Bfloat16> x, std::span<float> out) const {
  std::fill(out.begin(), out.end(), 0.0F);
  add_answer(experts_[expert], x, 1.0F, out);
}

std::vector<std::vector<ExpertNetwork::Selection>> ExpertNetwork::group_by_expert(const Tensor& topk_idx,
                                                                                  const Tensor& topk_weights) const {
  std::vector<std::vector<Selection>> result(experts_.size());
  const auto num_topk = static_cast<std::size_t>(topk_idx.size(1));
  for (std::size_t i = 0; i < static_cast<std::size_t>(topk_idx.num_elements()); ++i) {
    const std::int64_t id = topk_idx.data_as<std::int64_t>()[i];
    if (id >= 0) result[static_cast<std::size_t>(id)].push_back({i / num_topk, topk_weights.data_as<float>()[i]});
  }
  return result;
}

void ExpertNetwork::add_answer(const Expert& expert, std::span<const Bfloat16> x, float weight,
                               std::span<float> out) const {
  std::vector<float> gate(inner_);
  std::vector<float> up(inner_);
  for (std::size_t channel = 0; channel < hidden_; ++channel) {
    const float value = to_float(x[channel]);
    add_scaled(value, &expert.gate[channel * inner_], gate);
    add_scaled(value, &expert.up[channel * inner_], up);
  }
  for (std::size_t channel = 0; channel < inner_; ++channel) {
    add_scaled(weight * silu(gate[channel]) * up[channel], &expert.down[channel * hidden_], out);
  }
}

}  // namespace crossdock::tool
