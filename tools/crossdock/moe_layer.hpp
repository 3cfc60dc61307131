// The recorded layer of a trained model (data/moe_layer.safetensors).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "base/bfloat16.hpp"
#include "crossdock/safetensors.hpp"

namespace crossdock::tool {

/// N tokens of all ranks, H channels, I channels inside an expert, E experts, K top-k. Views into the mapped file.
struct MoeLayer {
  SafetensorsFile file;
  std::int64_t num_tokens = 0;               ///< N
  std::int64_t hidden = 0;                   ///< H
  std::int64_t inner = 0;                    ///< I
  int num_experts = 0;                       ///< E
  int num_topk = 0;                          ///< K
  std::span<const Bfloat16> x{};             ///< [N, H]
  std::span<const std::int64_t> topk_idx{};  ///< [N, K], the router's choices
  std::span<const float> topk_weights{};     ///< [N, K]
  std::span<const Bfloat16> w_gate{};        ///< [E, I, H]
  std::span<const Bfloat16> w_up{};          ///< [E, I, H]
  std::span<const Bfloat16> w_down{};        ///< [E, H, I]
  std::span<const float> y{};                ///< [N, H], computed in float64
};

/// Throws kSystem if the file cannot be read, kFormat if it is not such a layer.
[[nodiscard]] MoeLayer load_moe_layer(const std::filesystem::path& path);

}  // namespace crossdock::tool
