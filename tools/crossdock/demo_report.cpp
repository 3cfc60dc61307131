#include "crossdock/demo_report.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "crossdock/heat_map.hpp"

namespace crossdock::tool {

namespace {

std::int64_t sum_of(std::span<const std::int64_t> values) {
  return std::accumulate(values.begin(), values.end(), std::int64_t{0});
}

std::string routing_part(const DemoSetting& setting, const MoeLayer& layer, const DemoShared& shared,
                         const Terminal& terminal) {
  const std::int64_t rows = sum_of(shared.rows.values());
  const std::int64_t selections = sum_of(shared.expert_load.values());
  const std::string what =
      setting.operations == OperationMode::kLowLatency
          ? fmt::format("{} rows, one for each choice of an expert", rows)
          : fmt::format("{} rows for {} choices of an expert: {:.2f} ranks a token", rows, selections,
                        static_cast<double>(rows) / static_cast<double>(layer.num_tokens));
  return fmt::format("\n{}  {}\n{}", terminal.bold("Rows from rank to rank"), what,
                     heat_map(shared.rows.values(), shared.num_ranks, terminal));
}

std::string load_part(const DemoShared& shared, const Terminal& terminal) {
  const auto load = shared.expert_load.values();
  const double mean = static_cast<double>(sum_of(load)) / static_cast<double>(load.size());
  const auto busiest = std::max_element(load.begin(), load.end());
  const auto idle = std::count(load.begin(), load.end(), 0);
  return fmt::format("\n{}  mean {:.0f} tokens; expert {} has {:.1f} times that{}\n{}",
                     terminal.bold("Load of the experts"), mean, busiest - load.begin(),
                     static_cast<double>(*busiest) / mean,
                     idle == 0 ? "" : fmt::format(", {} {} none", idle, idle == 1 ? "has" : "have"),
                     load_histogram(load, shared.num_ranks, terminal));
}

/// Mean and maximum over the ranks of one time.
template <typename Get>
std::pair<double, double> mean_and_max(const DemoShared& shared, Get get) {
  double sum = 0;
  double largest = 0;
  for (const DemoTimes& times : shared.times.values()) {
    sum += get(times);
    largest = std::max(largest, get(times));
  }
  return {sum / shared.num_ranks, largest};
}

template <typename Get>
std::string total_row(std::string_view name, const DemoShared& shared, Get get) {
  const auto [mean, largest] = mean_and_max(shared, get);
  return fmt::format("{:<10}{:>10}{:>10}", name, format_duration(mean), format_duration(largest));
}

/// The phases of a collective operation, means over ranks.
std::string parts(const DemoShared& shared, Buffer::PhaseTimes DemoTimes::*operation) {
  std::string text;
  for (const auto part : {&Buffer::PhaseTimes::layout_us, &Buffer::PhaseTimes::announce_us,
                          &Buffer::PhaseTimes::place_us, &Buffer::PhaseTimes::copy_us, &Buffer::PhaseTimes::wait_us}) {
    const auto mean = mean_and_max(shared, [&](const DemoTimes& times) { return (times.*operation).*part; }).first;
    text += fmt::format("{:>11}", format_duration(mean));
  }
  return text;
}

/// Low-latency operations have no phases.
std::string times_part(const DemoSetting& setting, const DemoShared& shared, const Terminal& terminal) {
  const bool has_parts = setting.operations == OperationMode::kNormal;
  const std::string head = fmt::format("{:<10}{:>10}{:>10}", "Time", "mean", "slowest");
  const std::string part_names =
      has_parts ? fmt::format("{:>11}{:>11}{:>11}{:>11}{:>11}", "layout", "announce", "place", "copy", "wait") : "";
  return fmt::format("\n{}{}\n{}{}\n{}\n{}{}\n", terminal.bold(head), terminal.dim(part_names),
                     total_row("dispatch", shared, [](const auto& times) { return times.dispatch_us; }),
                     has_parts ? parts(shared, &DemoTimes::dispatch) : "",
                     total_row("experts", shared, [](const auto& times) { return times.experts_us; }),
                     total_row("combine", shared, [](const auto& times) { return times.combine_us; }),
                     has_parts ? parts(shared, &DemoTimes::combine) : "");
}

std::string error_line(std::string_view name, std::string_view scale, double error, double allowed) {
  return fmt::format("  {} error {:.3g} of the {} output, allowed {:.3g}\n", name, error, scale, allowed);
}

std::string verdict_part(const DemoSetting& setting, const MoeLayer& layer, const DemoShared& shared,
                         const Terminal& terminal) {
  const OutputError error = compare_outputs(shared.y.values(), layer.y);
  const OutputError allowed = allowed_error(setting.combine_dtype);
  const bool passed = demo_passed(setting, layer, shared);
  return fmt::format("\n{}  {} the output that the model gave when it was recorded\n{}{}",
                     passed ? terminal.green("PASS") : terminal.red("FAIL"), passed ? "this is" : "this is not",
                     error_line("largest", "largest", error.largest, allowed.largest),
                     error_line("mean   ", "mean", error.mean, allowed.mean));
}

}  // namespace

OutputError compare_outputs(std::span<const float> output, std::span<const float> recorded) {
  double largest_error = 0;
  double error_sum = 0;
  double largest = 0;
  double sum = 0;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const double error = std::abs(static_cast<double>(output[i]) - static_cast<double>(recorded[i]));
    const double size = std::abs(static_cast<double>(recorded[i]));
    if (std::isnan(error)) return {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
    largest_error = std::max(largest_error, error);
    error_sum += error;
    largest = std::max(largest, size);
    sum += size;
  }
  return {largest_error / largest, error_sum / sum};
}

OutputError allowed_error(DataType combine_dtype) {
  if (combine_dtype == DataType::kFloat32) return {1e-5, 1e-5};
  return {1.0 / 128, 1.0 / 256};
}

bool demo_passed(const DemoSetting& setting, const MoeLayer& layer, const DemoShared& shared) {
  const OutputError error = compare_outputs(shared.y.values(), layer.y);
  const OutputError allowed = allowed_error(setting.combine_dtype);
  return error.largest <= allowed.largest && error.mean <= allowed.mean;
}

std::string demo_report(const DemoSetting& setting, const MoeLayer& layer, const DemoShared& shared,
                        const Terminal& terminal) {
  return routing_part(setting, layer, shared, terminal) + load_part(shared, terminal) +
         times_part(setting, shared, terminal) + verdict_part(setting, layer, shared, terminal);
}

}  // namespace crossdock::tool
