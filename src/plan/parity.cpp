#include "plan/parity.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace crossdock::plan {

namespace {

/// A row-major int32 matrix of zeros, with its index arithmetic.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t columns, std::int32_t value = 0)
      : columns_(columns), values_(static_cast<std::size_t>(rows * columns), value) {}

  [[nodiscard]] std::int32_t& at(std::int64_t row, std::int64_t column) {
    return values_[static_cast<std::size_t>(row * columns_ + column)];
  }
  [[nodiscard]] std::span<std::int32_t> row(std::int64_t row) {
    return std::span(values_).subspan(static_cast<std::size_t>(row * columns_), static_cast<std::size_t>(columns_));
  }
  [[nodiscard]] std::vector<std::int32_t> take() && { return std::move(values_); }

 private:
  std::int64_t columns_;
  std::vector<std::int32_t> values_;
};

/// visit(token, dst, row) for every entry of the table.
template <typename Visit>
void for_each_entry(const RouteTable& route, Visit&& visit) {
  for (std::int64_t t = 0; t < route.num_tokens(); ++t) {
    const auto token = static_cast<std::size_t>(t);
    for (std::int32_t i = route.begin[token]; i < route.begin[token + 1]; ++i) {
      visit(t, route.rank[static_cast<std::size_t>(i)], route.row[static_cast<std::size_t>(i)]);
    }
  }
}

}  // namespace

std::int64_t tokens_per_channel(std::int64_t num_tokens, int num_channels) noexcept {
  return (num_tokens + num_channels - 1) / num_channels;
}

std::vector<std::int32_t> rank_prefix_matrix(const CountMatrix& counts) {
  const int num_ranks = counts.num_ranks();
  Matrix result(num_ranks, num_ranks);
  for (int src = 0; src < num_ranks; ++src) {
    for (int dst = 0; dst < num_ranks; ++dst) {
      result.at(src, dst) = counts.at(src, dst) + (src > 0 ? result.at(src - 1, dst) : 0);
    }
  }
  return std::move(result).take();
}

std::vector<std::int32_t> channel_prefix_matrix(const RouteTable& route, int num_ranks, int num_channels) {
  const std::int64_t channel_tokens = tokens_per_channel(route.num_tokens(), num_channels);
  Matrix result(num_ranks, num_channels);
  for_each_entry(route, [&](std::int64_t token, int dst, int) { ++result.at(dst, token / channel_tokens); });
  for (int dst = 0; dst < num_ranks; ++dst) {
    const auto row = result.row(dst);
    std::inclusive_scan(row.begin(), row.end(), row.begin());
  }
  return std::move(result).take();
}

std::vector<std::int32_t> recv_channel_prefix_matrix(std::span<const std::int32_t> recv_src_idx,
                                                     const CountMatrix& counts, int rank,
                                                     std::span<const std::int64_t> num_tokens_of, int num_channels) {
  Matrix result(counts.num_ranks(), num_channels);
  for (int src = 0; src < counts.num_ranks(); ++src) {
    const auto block = recv_src_idx.subspan(static_cast<std::size_t>(counts.row_begin(src, rank)),
                                            static_cast<std::size_t>(counts.at(src, rank)));
    const std::int64_t channel_tokens = tokens_per_channel(num_tokens_of[static_cast<std::size_t>(src)], num_channels);
    for (const std::int32_t token : block) ++result.at(src, token / channel_tokens);
    const auto row = result.row(src);
    std::exclusive_scan(row.begin(), row.end(), row.begin(), 0);
  }
  return std::move(result).take();
}

std::vector<std::int32_t> send_head(const RouteTable& route, int num_ranks, int num_channels) {
  const std::int64_t channel_tokens = tokens_per_channel(route.num_tokens(), num_channels);
  Matrix result(route.num_tokens(), num_ranks, -1);
  std::vector<std::int32_t> queue_begin(static_cast<std::size_t>(num_ranks));  // first row of the channel's queue
  std::vector<std::int64_t> queue_channel(static_cast<std::size_t>(num_ranks), -1);
  for_each_entry(route, [&](std::int64_t token, int dst, int row) {
    const auto d = static_cast<std::size_t>(dst);
    const std::int64_t channel = token / channel_tokens;
    if (queue_channel[d] != channel) {
      queue_channel[d] = channel;
      queue_begin[d] = row;
    }
    result.at(token, dst) = row - queue_begin[d];
  });
  return std::move(result).take();
}

}  // namespace crossdock::plan
