#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "crossdock/heat_map.hpp"
#include "plan/experts.hpp"

namespace crossdock::tool {

namespace {

constexpr int kLabelWidth = 8;
constexpr int kHeight = 6;

class Histogram {
 public:
  Histogram(std::span<const std::int64_t> load, int num_ranks, const Terminal& terminal)
      : load_(load),
        num_ranks_(num_ranks),
        experts_(static_cast<int>(load.size()), num_ranks),
        terminal_(terminal),
        largest_(std::max<std::int64_t>(1, *std::max_element(load.begin(), load.end()))),
        spaced_(static_cast<int>(load.size()) + num_ranks <= terminal.columns() - kLabelWidth) {}

  [[nodiscard]] std::string draw() const {
    std::string text;
    for (int line = kHeight - 1; line >= 0; --line) text += draw_line(line);
    return text + rank_labels();
  }

 private:
  [[nodiscard]] std::string draw_line(int line) const {
    std::string label;
    if (line == kHeight - 1) label = std::to_string(largest_);
    if (line == 0) label = "0";
    std::string cells;
    for (int rank = 0; rank < num_ranks_; ++rank) {
      for (int i = 0; i < experts_.count(rank); ++i) cells += cell(experts_.begin(rank) + i, line);
      if (spaced_) cells += " ";
    }
    return fmt::format("{}{}\n", terminal_.dim(fmt::format("{:>{}} ", label, kLabelWidth - 1)), cells);
  }

  /// The part of an expert's column that lies in a line, line 0 at the bottom. Something is shown for any load above 0.
  [[nodiscard]] std::string_view cell(int expert, int line) const {
    constexpr std::array<std::string_view, 9> kEighths{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    const auto load = static_cast<double>(load_[static_cast<std::size_t>(expert)]);
    const auto eighths = static_cast<int>(std::ceil(load / static_cast<double>(largest_) * kHeight * 8));
    return kEighths[static_cast<std::size_t>(std::clamp(eighths - line * 8, 0, 8))];
  }

  [[nodiscard]] std::string rank_labels() const {
    if (!spaced_) return {};
    std::string text = fmt::format("{:<{}}", "rank", kLabelWidth);
    for (int rank = 0; rank < num_ranks_; ++rank) {
      const auto width = static_cast<std::size_t>(experts_.count(rank)) + 1;
      const std::string name = std::to_string(rank);
      text += fmt::format("{:<{}}", name.size() < width ? name : "", width);
    }
    return fmt::format("{}\n", terminal_.dim(text));
  }

  std::span<const std::int64_t> load_;
  int num_ranks_;
  plan::ExpertMap experts_;
  const Terminal& terminal_;
  std::int64_t largest_;
  bool spaced_;
};

}  // namespace

std::string load_histogram(std::span<const std::int64_t> load, int num_ranks, const Terminal& terminal) {
  return Histogram(load, num_ranks, terminal).draw();
}

}  // namespace crossdock::tool
