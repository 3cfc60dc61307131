// Where the tokens of a rank go.
#pragma once

#include <optional>

#include <crossdock/tensor.hpp>

namespace crossdock {

/// Result of Buffer::get_dispatch_layout for `num_tokens` tokens, R ranks and E experts. A token counts once for each
/// rank and node that owns at least one of its experts; an expert is counted for every selection, duplicates included.
struct DispatchLayout {
  Tensor num_tokens_per_rank;                 ///< int32 [R]
  std::optional<Tensor> num_tokens_per_node;  ///< int32 [nodes]; only if there is more than one node
  Tensor num_tokens_per_expert;               ///< int32 [E]
  Tensor is_token_in_rank;                    ///< bool [num_tokens, R]
};

}  // namespace crossdock
