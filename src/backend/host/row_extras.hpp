// What travels with a row besides its payload: scales, local expert ids, weights, source token.
#pragma once

#include <optional>
#include <span>

#include "backend/handle_state.hpp"
#include "backend/host/windows.hpp"
#include "plan/experts.hpp"

namespace crossdock::host {

struct RowExtras {
  const DispatchHandle::State* handle = nullptr;
  const plan::RouteTable* route = nullptr;  ///< the rows to send, of those that the handle has
  const plan::ExpertMap* experts = nullptr;
  std::optional<Tensor> x_scales;         ///< [N, S], any strides
  std::optional<Tensor> topk_idx;         ///< [N, K], contiguous
  std::optional<Tensor> topk_weights;     ///< [N, K], contiguous
  bool is_cached = false;                 ///< source tokens are known already
  std::span<const Placement> placements;  ///< [R]
};

/// Writes the extras of all rows of this rank where the placements say.
void send_row_extras(const RowExtras& extras, const Windows& windows);

}  // namespace crossdock::host
