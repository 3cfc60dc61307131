#include "recording.hpp"

#include <cstring>
#include <initializer_list>

#include "crossdock/safetensors.hpp"

namespace example {

namespace {

using crossdock::tool::SafetensorsFile;
using crossdock::tool::SafetensorsType;

/// A copy of a tensor of the file.
template <class Element>
at::Tensor read(const SafetensorsFile& file, const char* name, SafetensorsType type, at::ScalarType dtype,
                std::initializer_list<std::int64_t> shape) {
  const auto values = file.view().values<Element>(name, type, shape);
  at::Tensor tensor = at::empty(at::IntArrayRef(shape), dtype);
  std::memcpy(tensor.data_ptr(), values.data(), values.size_bytes());
  return tensor;
}

}  // namespace

Recording::Recording(const std::string& file) {
  const SafetensorsFile data(file);
  constexpr std::int64_t kRanks = 8, kTokensPerRank = kTokens / kRanks;
  const auto bfloat16 = [&](const char* name, std::initializer_list<std::int64_t> shape) {
    return read<std::uint16_t>(data, name, SafetensorsType::kBf16, at::kBFloat16, shape);
  };
  const auto float32 = [&](const char* name, std::initializer_list<std::int64_t> shape) {
    return read<float>(data, name, SafetensorsType::kF32, at::kFloat, shape);
  };
  tokens.x = bfloat16("x", {kRanks, kTokensPerRank, kHidden}).flatten(0, 1);
  tokens.topk_idx =
      read<std::int64_t>(data, "topk_idx", SafetensorsType::kI64, at::kLong, {kRanks, kTokensPerRank, kTopK})
          .flatten(0, 1);
  tokens.topk_weights = float32("topk_weights", {kRanks, kTokensPerRank, kTopK}).flatten(0, 1);
  tokens.y = float32("y", {kRanks, kTokensPerRank, kHidden}).flatten(0, 1);
  w_gate = bfloat16("w_gate", {kExperts, kInner, kHidden});
  w_up = bfloat16("w_up", {kExperts, kInner, kHidden});
  w_down = bfloat16("w_down", {kExperts, kHidden, kInner});
}

}  // namespace example
