// The recorded layer as torch tensors; data/README.md says what they are.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <ATen/ATen.h>

namespace example {

/// Some of the tokens, with what the model gave for them.
struct Tokens {
  at::Tensor x;             ///< bfloat16 [tokens, hidden]
  at::Tensor topk_idx;      ///< int64 [tokens, 8]
  at::Tensor topk_weights;  ///< float32 [tokens, 8]
  at::Tensor y;             ///< float32 [tokens, hidden]

  template <class Choose>
  [[nodiscard]] Tokens map(Choose choose) const {
    return {choose(x), choose(topk_idx), choose(topk_weights), choose(y)};
  }
  [[nodiscard]] std::array<Tokens, 2> halves() const {
    return {map([](const at::Tensor& t) { return t.tensor_split(2)[0]; }),
            map([](const at::Tensor& t) { return t.tensor_split(2)[1]; })};
  }
};

/// Copies of the file's tensors.
struct Recording {
  static constexpr std::int64_t kTokens = 2048, kTopK = 8, kInner = 64;
  static constexpr int kHidden = 256, kExperts = 64;

  /// Throws crossdock::Error if the file is not that recording.
  explicit Recording(const std::string& file);

  Tokens tokens;
  at::Tensor w_gate, w_up;  ///< bfloat16 [experts, inner, hidden]
  at::Tensor w_down;        ///< bfloat16 [experts, hidden, inner]
};

}  // namespace example
