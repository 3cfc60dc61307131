#include "crossdock/heat_map.hpp"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

namespace crossdock::tool {

namespace {

constexpr int kLabelWidth = 8;

/// Draws the matrix line by line; cells are `width` columns wide.
class HeatMap {
 public:
  HeatMap(std::span<const std::int64_t> rows, int num_ranks, const Terminal& terminal)
      : rows_(rows), num_ranks_(num_ranks), terminal_(terminal), largest_(*std::max_element(rows.begin(), rows.end())) {
    constexpr int kNumberWidth = 6;
    const int room = terminal.columns() - kLabelWidth - kSumWidth;
    width_ = room / num_ranks;
    numbers_ = width_ >= kNumberWidth;
    width_ = numbers_ ? kNumberWidth : width_ >= 2 ? 2 : 1;
  }

  [[nodiscard]] std::string draw() const {
    std::string text = header();
    for (int source = 0; source < num_ranks_; ++source) text += line(source);
    return text + footer();
  }

 private:
  static constexpr int kSumWidth = 9;

  [[nodiscard]] std::int64_t at(int source, int destination) const {
    return rows_[static_cast<std::size_t>(source) * static_cast<std::size_t>(num_ranks_) +
                 static_cast<std::size_t>(destination)];
  }

  [[nodiscard]] std::string header() const {
    std::string text = fmt::format("{:<{}}", "from\\to", kLabelWidth);
    const int step = numbers_ ? 1 : 8 / width_;
    for (int rank = 0; rank < num_ranks_; rank += step) {
      const int columns = width_ * std::min(step, num_ranks_ - rank);
      text += numbers_ ? fmt::format("{:>{}} ", rank, columns - 1)
                       : fmt::format("{:<{}.{}}", std::to_string(rank), columns, columns);
    }
    return fmt::format("{}\n", terminal_.dim(fmt::format("{}{:>{}}", text, "sent", kSumWidth)));
  }

  [[nodiscard]] std::string line(int source) const {
    std::string text = terminal_.dim(fmt::format("{:>{}}  ", source, kLabelWidth - 2));
    std::int64_t sum = 0;
    for (int destination = 0; destination < num_ranks_; ++destination) {
      text += cell(at(source, destination));
      sum += at(source, destination);
    }
    return text + fmt::format("{:>{}}\n", sum, kSumWidth);
  }

  [[nodiscard]] std::string cell(std::int64_t count) const {
    const double share = largest_ > 0 ? static_cast<double>(count) / static_cast<double>(largest_) : 0;
    const std::string number = numbers_ ? fmt::format("{:>{}}", count, width_ - 1) : "";
    if (terminal_.colour())
      return terminal_.heat(share, number + std::string(static_cast<std::size_t>(width_) - number.size(), ' '));
    std::string text = number;
    for (int i = 0; i < (numbers_ ? 1 : width_); ++i) text += shade(share);
    return text;
  }

  [[nodiscard]] std::string footer() const {
    if (!numbers_) return {};
    std::string text = fmt::format("{:<{}}", "received", kLabelWidth);
    for (int destination = 0; destination < num_ranks_; ++destination) {
      std::int64_t sum = 0;
      for (int source = 0; source < num_ranks_; ++source) sum += at(source, destination);
      text += fmt::format("{:>{}} ", sum, width_ - 1);
    }
    return text + fmt::format("{:>{}}\n", std::accumulate(rows_.begin(), rows_.end(), std::int64_t{0}), kSumWidth);
  }

  std::span<const std::int64_t> rows_;
  int num_ranks_;
  const Terminal& terminal_;
  std::int64_t largest_;
  int width_ = 1;
  bool numbers_ = false;
};

}  // namespace

std::string heat_map(std::span<const std::int64_t> rows, int num_ranks, const Terminal& terminal) {
  return HeatMap(rows, num_ranks, terminal).draw();
}

}  // namespace crossdock::tool
