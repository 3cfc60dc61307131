#include "core/round_trip.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <stdexcept>

#include "base/bfloat16.hpp"
#include "core/tensors.hpp"
#include "plan/experts.hpp"

namespace crossdock::testing {

namespace {

template <typename... Args>
void expect(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) throw std::runtime_error("round trip: " + fmt::format(text, std::forward<Args>(args)...));
}

/// A number as an element of that type: exact for the two types that combine sums, else just bytes that tell numbers
/// apart.
void write_element(std::byte* at, DataType dtype, int value) {
  if (dtype == DataType::kBfloat16) {
    const Bfloat16 element = to_bfloat16(static_cast<float>(value));
    std::memcpy(at, &element, sizeof(element));
  } else if (dtype == DataType::kFloat32) {
    const auto element = static_cast<float>(value);
    std::memcpy(at, &element, sizeof(element));
  } else {
    std::fill_n(at, size_of(dtype), static_cast<std::byte>(value & 0xFF));
  }
}

bool is_element(const Tensor& tensor, std::size_t index, int value) {
  std::byte expected[8];
  const std::size_t size = size_of(tensor.dtype());
  write_element(expected, tensor.dtype(), value);
  return std::memcmp(expected, tensor.data_as<std::byte>() + index * size, size) == 0;
}

std::int64_t id_at(const Tensor& ids, std::size_t index) {
  return ids.dtype() == DataType::kInt64 ? ids.data_as<std::int64_t>()[index] : ids.data_as<std::int32_t>()[index];
}

}  // namespace

RoundTrip::RoundTrip(int rank, int num_ranks, const RoundTripShape& shape)
    : rank_(rank), num_ranks_(num_ranks), shape_(shape) {}

std::int64_t RoundTrip::num_tokens(int rank) const { return shape_.num_tokens == 0 ? 0 : shape_.num_tokens + rank % 3; }

std::int64_t RoundTrip::id(int rank, std::int64_t token, int k) const {
  if (shape_.only_expert >= 0) return shape_.only_expert;
  if ((rank + token + k + shape_.salt) % 7 == 0) return -1;
  return (5 * rank + 3 * token + std::int64_t{7} * k + shape_.salt) % shape_.num_experts;
}

float RoundTrip::weight(int rank, std::int64_t token, int k) const {
  return static_cast<float>(1 + (rank + token + k) % 9) * 0.25F;
}

int RoundTrip::value(int rank, std::int64_t token, std::int64_t column) const {
  return static_cast<int>((31 * rank + 7 * token + column + shape_.salt) % 251);
}

int RoundTrip::owner(std::int64_t id) const {
  return plan::ExpertMap(shape_.num_experts, num_ranks_).owner(static_cast<int>(id));
}

bool RoundTrip::is_masked(int rank) const { return std::ranges::find(shape_.masked, rank) != shape_.masked.end(); }

bool RoundTrip::goes_to(int rank, std::int64_t token, int destination) const {
  for (int k = 0; k < shape_.num_topk; ++k) {
    const std::int64_t selected = id(rank, token, k);
    if (selected >= 0 && owner(selected) == destination) return true;
  }
  return false;
}

std::vector<RoundTrip::Row> RoundTrip::received() const {
  std::vector<Row> rows;
  for (int source = 0; source < num_ranks_; ++source) {
    if (is_masked(source)) continue;
    for (std::int64_t token = 0; token < num_tokens(source); ++token) {
      if (goes_to(source, token, rank_)) rows.push_back({source, token});
    }
  }
  return rows;
}

std::int64_t RoundTrip::num_recv_tokens() const { return static_cast<std::int64_t>(received().size()); }

Tensor RoundTrip::make_x() const {
  Tensor x = make_tensor(shape_.dtype, {num_tokens(rank_), shape_.hidden});
  std::byte* at = x.data_as<std::byte>();
  for (std::int64_t token = 0; token < num_tokens(rank_); ++token) {
    for (std::int64_t column = 0; column < shape_.hidden; ++column, at += size_of(shape_.dtype)) {
      write_element(at, shape_.dtype, value(rank_, token, column));
    }
  }
  return x;
}

Tensor RoundTrip::make_scales() const {
  const std::int64_t rows = num_tokens(rank_);
  Tensor scales = make_tensor(DataType::kFloat32, {rows, shape_.num_scales});
  if (shape_.transposed_scales) scales = scales.with_strides({1, rows});
  for (std::int64_t token = 0; token < rows; ++token) {
    for (std::int64_t column = 0; column < shape_.num_scales; ++column) {
      scales.data_as<float>()[token * scales.stride(0) + column * scales.stride(1)] =
          static_cast<float>(value(rank_, token, column + 1));
    }
  }
  return scales;
}

DispatchInput RoundTrip::input() const {
  DispatchInput result;
  result.x = make_x();
  if (shape_.num_scales > 0) result.x_scales = make_scales();
  result.topk_idx = make_tensor(shape_.id_dtype, {num_tokens(rank_), shape_.num_topk});
  result.topk_weights = make_tensor(DataType::kFloat32, {num_tokens(rank_), shape_.num_topk});
  std::int64_t at = 0;
  for (std::int64_t token = 0; token < num_tokens(rank_); ++token) {
    for (int k = 0; k < shape_.num_topk; ++k, ++at) {
      set_id(*result.topk_idx, at, id(rank_, token, k));
      result.topk_weights->data_as<float>()[at] = weight(rank_, token, k);
    }
  }
  result.num_experts = shape_.num_experts;
  return result;
}

void RoundTrip::check_topk(const DispatchOutput& output, std::size_t row, const Row& from) const {
  const plan::ExpertMap experts(shape_.num_experts, num_ranks_);
  for (int k = 0; k < shape_.num_topk; ++k) {
    const std::size_t at = row * static_cast<std::size_t>(shape_.num_topk) + static_cast<std::size_t>(k);
    const std::int64_t selected = id(from.source, from.token, k);
    const bool is_local = selected >= 0 && owner(selected) == rank_;
    const std::int64_t expected = is_local ? selected - experts.begin(rank_) : -1;
    expect(id_at(*output.recv_topk_idx, at) == expected, "recv_topk_idx[{}][{}] of rank {} is {}, not {}", row, k,
           rank_, id_at(*output.recv_topk_idx, at), expected);
    expect(output.recv_topk_weights->data_as<float>()[at] == (is_local ? weight(from.source, from.token, k) : 0.0F),
           "recv_topk_weights[{}][{}] of rank {} is wrong", row, k, rank_);
  }
}

void RoundTrip::check(const DispatchOutput& output) const {
  const std::vector<Row> rows = received();
  expect(output.handle.num_recv_tokens() == std::ssize(rows), "rank {} received {} rows, not {}", rank_,
         output.handle.num_recv_tokens(), rows.size());
  expect(output.recv_x.size(0) == output.handle.num_recv_rows(), "recv_x of rank {} has {} rows, the handle {}", rank_,
         output.recv_x.size(0), output.handle.num_recv_rows());
  expect(output.recv_x_scales.has_value() == (shape_.num_scales > 0), "rank {} lacks scales", rank_);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const auto [source, token] = rows[row];
    const auto element = [row](std::int64_t columns, std::int64_t column) {
      return row * static_cast<std::size_t>(columns) + static_cast<std::size_t>(column);
    };
    for (std::int64_t column = 0; column < shape_.hidden; ++column) {
      expect(is_element(output.recv_x, element(shape_.hidden, column), value(source, token, column)),
             "recv_x[{}][{}] of rank {} is not from token {} of rank {}", row, column, rank_, token, source);
    }
    for (std::int64_t column = 0; column < shape_.num_scales; ++column) {
      expect(is_element(*output.recv_x_scales, element(shape_.num_scales, column), value(source, token, column + 1)),
             "recv_x_scales[{}][{}] of rank {} is wrong", row, column, rank_);
    }
    expect(output.handle.recv_src_idx().data_as<std::int32_t>()[row] == token, "recv_src_idx[{}] of rank {} is wrong",
           row, rank_);
    if (output.recv_topk_idx) check_topk(output, row, rows[row]);
  }
}

void RoundTrip::check(const CombineOutput& output) const {
  std::size_t at = 0;
  for (std::int64_t token = 0; token < num_tokens(rank_); ++token) {
    std::set<int> destinations;
    for (int k = 0; k < shape_.num_topk; ++k) {
      const std::int64_t selected = id(rank_, token, k);
      const bool counts = selected >= 0 && !is_masked(owner(selected));
      if (counts) destinations.insert(owner(selected));
      if (!output.combined_topk_weights) continue;
      const auto index = static_cast<std::size_t>(token * shape_.num_topk + k);
      expect(output.combined_topk_weights->data_as<float>()[index] == (counts ? weight(rank_, token, k) : 0.0F),
             "combined_topk_weights[{}][{}] of rank {} is wrong", token, k, rank_);
    }
    for (std::int64_t column = 0; column < shape_.hidden; ++column, ++at) {
      const int expected = value(rank_, token, column) * static_cast<int>(destinations.size());
      expect(is_element(output.combined_x, at, expected), "combined_x[{}][{}] of rank {} is not {}", token, column,
             rank_, expected);
    }
  }
}

CombineInput combine_of(const DispatchOutput& dispatched) {
  CombineInput result;
  result.x = dispatched.recv_x;
  result.handle = dispatched.handle;
  return result;
}

CachedDispatchInput cached_of(const DispatchInput& input, const DispatchOutput& dispatched) {
  CachedDispatchInput result;
  result.x = input.x;
  result.x_scales = input.x_scales;
  result.handle = dispatched.handle;
  return result;
}

void run_round_trip(Buffer& buffer, const RoundTripShape& shape, const OperationOptions& options) {
  const RoundTrip trip(buffer.rank(), buffer.num_ranks(), shape);
  const DispatchInput input = trip.input();
  const DispatchOutput dispatched = buffer.dispatch(input, options);
  dispatched.event.wait();
  trip.check(dispatched);
  if (shape.dtype != DataType::kBfloat16 && shape.dtype != DataType::kFloat32) return;
  CombineInput combine = combine_of(dispatched);
  combine.topk_weights = dispatched.recv_topk_weights;
  const CombineOutput combined = buffer.combine(combine, options);
  combined.event.wait();
  trip.check(combined);
}

}  // namespace crossdock::testing
