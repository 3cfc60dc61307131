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

/// What find_selections put into a handle.
[[nodiscard]] device::SelectionTable selections_of(const DispatchHandle::State& handle);

}  // namespace crossdock::cuda
