#include "backend/host/row_extras.hpp"

#include <cstring>
#include <vector>

namespace crossdock::host {

namespace {

/// Calls body(token, destination rank, absolute row there, entry of the route) for each row of this rank, tokens
/// ascending.
template <class Body>
void for_each_row(const RowExtras& extras, int rank, Body body) {
  const DispatchHandle::State& handle = *extras.handle;
  const plan::RouteTable& route = *extras.route;
  std::vector<std::int64_t> begin(static_cast<std::size_t>(handle.counts.num_ranks()));
  for (int dst = 0; dst < handle.counts.num_ranks(); ++dst) {
    begin[static_cast<std::size_t>(dst)] = handle.first_row(rank, dst);
  }
  for (std::int64_t token = 0; token < route.num_tokens(); ++token) {
    const auto end = static_cast<std::size_t>(route.begin[static_cast<std::size_t>(token) + 1]);
    for (auto i = static_cast<std::size_t>(route.begin[static_cast<std::size_t>(token)]); i < end; ++i) {
      body(token, route.rank[i], begin[static_cast<std::size_t>(route.rank[i])] + route.row[i], i);
    }
  }
}

/// Base address of one kind of extra at each rank.
template <class T>
std::vector<T*> bases(const RowExtras& extras, const Windows& windows, std::uint64_t Placement::*offset) {
  std::vector<T*> result(static_cast<std::size_t>(windows.num_ranks()));
  for (int rank = 0; rank < windows.num_ranks(); ++rank) {
    result[static_cast<std::size_t>(rank)] =
        reinterpret_cast<T*>(windows.data(rank) + extras.placements[static_cast<std::size_t>(rank)].*offset);
  }
  return result;
}

template <class Id>
void send_topk(const RowExtras& extras, const Windows& windows) {
  const auto num_topk = static_cast<std::size_t>(extras.topk_idx->size(1));
  const auto* ids = extras.topk_idx->data_as<Id>();
  const auto* weights = extras.topk_weights->data_as<float>();
  const auto ids_at = bases<Id>(extras, windows, &Placement::topk_idx);
  const auto weights_at = bases<float>(extras, windows, &Placement::topk_weights);
  for_each_row(extras, windows.rank, [&](std::int64_t token, int dst, std::int64_t row, std::size_t /*entry*/) {
    const Id* from = ids + static_cast<std::size_t>(token) * num_topk;
    const float* weights_from = weights + static_cast<std::size_t>(token) * num_topk;
    Id* to = ids_at[static_cast<std::size_t>(dst)] + static_cast<std::size_t>(row) * num_topk;
    float* weights_to = weights_at[static_cast<std::size_t>(dst)] + static_cast<std::size_t>(row) * num_topk;
    const Id begin = extras.experts->begin(dst);
    const Id count = extras.experts->count(dst);
    for (std::size_t k = 0; k < num_topk; ++k) {
      const Id local = from[k] - begin;
      const bool is_local = local >= 0 && local < count;
      to[k] = is_local ? local : Id{-1};
      weights_to[k] = is_local ? weights_from[k] : 0.0F;
    }
  });
}

/// Of an expanded dispatch: each row's own weight.
void send_weights(const RowExtras& extras, const Windows& windows) {
  const auto num_topk = static_cast<std::size_t>(extras.topk_weights->size(1));
  const auto* weights = extras.topk_weights->data_as<float>();
  const auto at = bases<float>(extras, windows, &Placement::topk_weights);
  for_each_row(extras, windows.rank, [&](std::int64_t token, int dst, std::int64_t row, std::size_t entry) {
    const auto column = static_cast<std::size_t>(extras.route->column[entry]);
    at[static_cast<std::size_t>(dst)][row] = weights[static_cast<std::size_t>(token) * num_topk + column];
  });
}

void send_scales(const RowExtras& extras, const Windows& windows) {
  const Tensor& scales = *extras.x_scales;
  const std::size_t element = size_of(scales.dtype());
  const auto columns = static_cast<std::size_t>(scales.size(1));
  const auto row_stride = static_cast<std::size_t>(scales.stride(0)) * element;
  const auto column_stride = static_cast<std::size_t>(scales.stride(1)) * element;
  const auto at = bases<std::byte>(extras, windows, &Placement::scales);
  std::vector<std::byte> packed(columns * element);
  std::int64_t packed_token = -1;
  for_each_row(extras, windows.rank, [&](std::int64_t token, int dst, std::int64_t row, std::size_t /*entry*/) {
    const std::byte* from = scales.data_as<std::byte>() + static_cast<std::size_t>(token) * row_stride;
    if (column_stride != element && token != packed_token) {
      for (std::size_t c = 0; c < columns; ++c) {
        std::memcpy(packed.data() + c * element, from + c * column_stride, element);
      }
      packed_token = token;
    }
    std::byte* to = at[static_cast<std::size_t>(dst)] + static_cast<std::size_t>(row) * packed.size();
    std::memcpy(to, column_stride == element ? from : packed.data(), packed.size());
  });
}

void send_source_tokens(const RowExtras& extras, const Windows& windows) {
  const auto at = bases<std::int32_t>(extras, windows, &Placement::src_idx);
  for_each_row(extras, windows.rank, [&](std::int64_t token, int dst, std::int64_t row, std::size_t /*entry*/) {
    at[static_cast<std::size_t>(dst)][row] = static_cast<std::int32_t>(token);
  });
}

}  // namespace

void send_row_extras(const RowExtras& extras, const Windows& windows) {
  if (extras.x_scales && extras.x_scales->num_elements() > 0) send_scales(extras, windows);
  if (extras.topk_weights && extras.handle->is_expanded()) {
    send_weights(extras, windows);
  } else if (extras.topk_idx) {
    if (extras.topk_idx->dtype() == DataType::kInt64) {
      send_topk<std::int64_t>(extras, windows);
    } else {
      send_topk<std::int32_t>(extras, windows);
    }
  }
  if (!extras.is_cached) send_source_tokens(extras, windows);
}

}  // namespace crossdock::host
