// How fast one core runs the row kernels of low-latency mode: GB/s of bfloat16 read, the codecs' own output not
// counted.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string_view>
#include <vector>

#include "backend/host/kernels.hpp"
#include "backend/host/logfmt_kernels.hpp"
#include "backend/host/low_latency_kernels.hpp"
#include "base/bfloat16.hpp"
#include "codec/float8.hpp"
#include "codec/logfmt.hpp"

namespace crossdock::benchmark {
namespace {

constexpr std::size_t kAddends = 8;

struct Options {
  std::size_t hidden = 7168;
  std::size_t rows = 64;
  int repetitions = 200;
};

/// Works on one row after the other, again and again.
class RowBenchmark {
 public:
  explicit RowBenchmark(const Options& options)
      : options_(options),
        x_(options.rows * options.hidden),
        values_(options.rows * options.hidden),
        scales_(options.rows * static_cast<std::size_t>(codec::num_groups(static_cast<std::int64_t>(options.hidden)))),
        wire_stride_(static_cast<std::size_t>(codec::logfmt_max_bytes(static_cast<std::int64_t>(options.hidden)))),
        wire_(options.rows * wire_stride_),
        sums_(host::logfmt_sum_elements(options.hidden)),
        out_(options.hidden) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0F, 0.3F);  // LogFMT casts rows like that
    std::ranges::generate(x_, [&] { return to_bfloat16(std::clamp(normal(random), -0.99F, 0.99F)); });
  }

  void run() {
    report("cast to FP8, float32 scales", 1, [this](std::size_t row) { cast(row, codec::ScaleRounding::kNone); });
    report("cast to FP8, power-of-two scales", 1,
           [this](std::size_t row) { cast(row, codec::ScaleRounding::kPowerOfTwo); });
    report("encode LogFMT", 1, [this](std::size_t row) { encode(row); });
    report("decode LogFMT and sum 8 rows", kAddends, [this](std::size_t row) {
      host::sum_weighted_logfmt_rows(addends(row, wire_.data(), wire_stride_), options_.hidden, sums_, out());
    });
    report("sum 8 rows", kAddends, [this](std::size_t row) {
      const auto* x = reinterpret_cast<const std::byte*>(x_.data());
      host::sum_weighted_rows(addends(row, x, options_.hidden * sizeof(Bfloat16)), options_.hidden, out());
    });
  }

 private:
  [[nodiscard]] const Bfloat16* x_row(std::size_t row) const { return x_.data() + row * options_.hidden; }
  [[nodiscard]] std::byte* out() { return reinterpret_cast<std::byte*>(out_.data()); }

  void cast(std::size_t row, codec::ScaleRounding rounding) {
    const std::size_t groups = scales_.size() / options_.rows;
    host::quantize_row(x_row(row), options_.hidden, rounding, values_.data() + row * options_.hidden,
                       scales_.data() + row * groups);
  }

  void encode(std::size_t row) {
    static_cast<void>(host::encode_logfmt_row(x_row(row), options_.hidden, wire_.data() + row * wire_stride_));
  }

  /// Eight rows, from this one on.
  std::array<host::WeightedRow, kAddends> addends(std::size_t row, const std::byte* rows, std::size_t stride) const {
    std::array<host::WeightedRow, kAddends> result;
    for (std::size_t i = 0; i < kAddends; ++i) result[i] = {rows + (row + i) % options_.rows * stride, 0.125F};
    return result;
  }

  /// The median over the repetitions, each of which does all rows once.
  void report(std::string_view name, std::size_t rows_read, const std::function<void(std::size_t)>& kernel) const {
    using Clock = std::chrono::steady_clock;
    std::vector<double> nanoseconds;
    for (int repetition = 0; repetition < options_.repetitions; ++repetition) {
      const auto begin = Clock::now();
      for (std::size_t row = 0; row < options_.rows; ++row) kernel(row);
      nanoseconds.push_back(std::chrono::duration<double, std::nano>(Clock::now() - begin).count());
    }
    const auto middle = nanoseconds.begin() + static_cast<std::ptrdiff_t>(nanoseconds.size() / 2);
    std::ranges::nth_element(nanoseconds, middle);
    const auto elements = static_cast<double>(options_.rows * options_.hidden * rows_read);
    fmt::print("{:<34}{:>7.1f} GB/s{:>9.3f} ns an element\n", name, elements * sizeof(Bfloat16) / *middle,
               *middle / elements);
  }

  Options options_;
  std::vector<Bfloat16> x_;
  std::vector<std::uint8_t> values_;
  std::vector<float> scales_;
  std::size_t wire_stride_;
  std::vector<std::byte> wire_;
  std::vector<float> sums_;
  std::vector<Bfloat16> out_;
};

int run(int argc, char** argv) {
  CLI::App app("How fast one core runs the row kernels of low-latency mode");
  Options options;
  app.add_option("--hidden", options.hidden, "Elements of a row")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--rows", options.rows, "Rows in turn: 64 rows of 7168 fit the second cache, many lie in memory")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--repetitions", options.repetitions, "Times that all rows are done")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  fmt::print("{} rows of {} elements, median of {} repetitions, {}\n", options.rows, options.hidden,
             options.repetitions, host::simd_target());
  RowBenchmark(options).run();
  return 0;
}

}  // namespace
}  // namespace crossdock::benchmark

int main(int argc, char** argv) { return crossdock::benchmark::run(argc, argv); }
