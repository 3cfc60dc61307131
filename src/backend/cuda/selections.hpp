// The rows of an expanded dispatch's selections, on the device.
#pragma once

#include <vector>

#include "backend/backend.hpp"
#include "backend/cuda/device/selections.hpp"
#include "backend/cuda/node.hpp"

namespace crossdock::cuda {

/// Queues kernels that find the rows of a new dispatch, whose groups are known; its handle gets them as `send_rows`.
/// `excluded` is [R], or empty.
void find_selections(const Node& node, const backend::DispatchRequest& request, const std::vector<bool>& excluded);

/// Of a new dispatch, all but which ranks get rows, the first rows and the scratch.
[[nodiscard]] device::SelectionArgs selection_args_of(const backend::DispatchRequest& request, int num_ranks);

/// The padding of an expanded dispatch's result, all but where groups end. `num_groups`: experts of this rank.
[[nodiscard]] device::PaddingArgs padding_args_of(const backend::DispatchRequest& request,
                                                  const backend::DispatchResult& result, int num_groups);

/// What find_selections put into a handle.
[[nodiscard]] device::SelectionTable selections_of(const DispatchHandle::State& handle);

}  // namespace crossdock::cuda
