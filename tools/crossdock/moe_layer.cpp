#include "crossdock/moe_layer.hpp"

#include <algorithm>

namespace crossdock::tool {

namespace {

/// The extents of a tensor of three dimensions, none of them zero.
std::vector<std::int64_t> shape_of(const SafetensorsView& view, const std::string& name) {
  const auto& entry = view.at(name);
  const bool good = entry.shape.size() == 3 &&
                    std::all_of(entry.shape.begin(), entry.shape.end(), [](auto extent) { return extent > 0; });
  if (!good) {
    throw make_error(ErrorCode::kFormat, "{}: tensor '{}' is {}, three extents above 0 are needed", view.source(), name,
                     entry.description());
  }
  return entry.shape;
}

}  // namespace

MoeLayer load_moe_layer(const std::filesystem::path& path) {
  MoeLayer layer{SafetensorsFile(path)};
  const SafetensorsView& view = layer.file.view();
  const auto x_shape = shape_of(view, "x");
  const auto gate_shape = shape_of(view, "w_gate");
  const auto topk_shape = shape_of(view, "topk_idx");
  const auto ranks = x_shape[0];
  const auto tokens = x_shape[1];
  layer.num_tokens = ranks * tokens;
  layer.hidden = x_shape[2];
  layer.inner = gate_shape[1];
  layer.num_experts = static_cast<int>(gate_shape[0]);
  layer.num_topk = static_cast<int>(topk_shape[2]);
  const auto experts = gate_shape[0];
  const auto topk = topk_shape[2];

  layer.x = view.values<Bfloat16>("x", SafetensorsType::kBf16, {ranks, tokens, layer.hidden});
  layer.topk_idx = view.values<std::int64_t>("topk_idx", SafetensorsType::kI64, {ranks, tokens, topk});
  layer.topk_weights = view.values<float>("topk_weights", SafetensorsType::kF32, {ranks, tokens, topk});
  layer.w_gate = view.values<Bfloat16>("w_gate", SafetensorsType::kBf16, {experts, layer.inner, layer.hidden});
  layer.w_up = view.values<Bfloat16>("w_up", SafetensorsType::kBf16, {experts, layer.inner, layer.hidden});
  layer.w_down = view.values<Bfloat16>("w_down", SafetensorsType::kBf16, {experts, layer.hidden, layer.inner});
  layer.y = view.values<float>("y", SafetensorsType::kF32, {ranks, tokens, layer.hidden});
  return layer;
}

}  // namespace crossdock::tool
