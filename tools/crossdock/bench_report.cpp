#include "crossdock/bench_report.hpp"

#include <fmt/format.h>

namespace crossdock::tool {

namespace {

std::string devices_part(int num_devices) {
  if (num_devices == 0) return "";
  return fmt::format(", {} CUDA device{}", num_devices, num_devices == 1 ? "" : "s");
}

std::string title(const BenchConfig& config, int num_devices, const Terminal& terminal) {
  return fmt::format("{}\n{} routing, {} iterations after {} of warm-up, combine reads {}\n\n",
                     terminal.bold(fmt::format("{} ranks ({}{}), {} tokens each, hidden {}, top-{} of {} experts, {}",
                                               config.num_ranks, name_of(config.rank_mode), devices_part(num_devices),
                                               config.num_tokens, config.hidden, *config.num_topk, *config.num_experts,
                                               name_of(config.dtype))) +
                         (config.mode == OperationMode::kLowLatency ? ", low-latency" : "") +
                         (config.use_logfmt ? ", LogFMT" : ""),
                     config.routing, config.iterations, config.warmup, name_of(config.combine_source));
}

std::string time_row(std::string_view name, const PhaseResult& phase, const Terminal& terminal) {
  return fmt::format("{:<10}{}{:>11}{:>11}{:>11}{:>11}   {}\n", name,
                     terminal.bold(fmt::format("{:>11}", format_duration(phase.p50_us))), format_duration(phase.p90_us),
                     format_duration(phase.p99_us), format_duration(phase.min_us), format_bytes(phase.bytes),
                     terminal.bold(fmt::format("{:>6.2f} GB/s", phase.gb_per_s())));
}

std::string parts_row(std::string_view name, const Buffer::PhaseTimes& parts) {
  return fmt::format("{:<10}{:>11}{:>11}{:>11}{:>11}{:>11}\n", name, format_duration(parts.layout_us),
                     format_duration(parts.announce_us), format_duration(parts.place_us),
                     format_duration(parts.copy_us), format_duration(parts.wait_us));
}

std::string parts_part(const BenchResult& result, const Terminal& terminal) {
  const std::string parts = fmt::format("{:<10}{:>11}{:>11}{:>11}{:>11}{:>11}   mean of the ranks, median iteration",
                                        "", "layout", "announce", "place", "copy", "wait");
  return fmt::format("{}\n{}{}\n", terminal.dim(parts), parts_row("dispatch", result.dispatch.parts),
                     parts_row("combine", result.combine.parts));
}

/// Small batches have no copy time of their own.
std::string copying_line(const BenchResult& result) {
  if (result.dispatch.copy_share <= 0) return "";
  return fmt::format("copying   {:.0f}% of the cores' time in dispatch, {:.0f}% in combine\n",
                     100 * result.dispatch.copy_share, 100 * result.combine.copy_share);
}

std::string loops_line(const BenchConfig& config) {
  return fmt::format("A round trip is dispatch, expert and combine in a loop: {} blocks of {}, no barriers between.\n",
                     BenchShared::kRoundTripBlocks, config.iterations);
}

std::string logfmt_line(const BenchResult& result) {
  if (!result.wire_bytes) return "";
  return fmt::format("LogFMT    combine's rows are {} as bf16 and {} on the wire: {:.1f}% saved\n",
                     format_bytes(result.combine.bytes), format_bytes(*result.wire_bytes), saved_percent(result));
}

std::string memory_line(const RankSummary& memory) {
  const auto tensors = memory.inputs_bytes + memory.received_bytes + memory.outputs_bytes;
  std::string result = fmt::format("memory    inputs {}, received {}, outputs {}", format_bytes(memory.inputs_bytes),
                                   format_bytes(memory.received_bytes), format_bytes(memory.outputs_bytes));
  if (memory.pss_bytes > 0 && tensors > 0) {
    result += fmt::format("; resident {} ({:.2f} times their sum)", format_bytes(memory.pss_bytes),
                          static_cast<double>(memory.pss_bytes) / static_cast<double>(tensors));
  }
  return result + "\n";
}

std::string verdict_line(const BenchResult& result, const Terminal& terminal) {
  if (!result.verified) return fmt::format("{}     {}\n", terminal.red("WRONG"), result.mismatch);
  return fmt::format("{}  the last iteration equals the serial reference, bit for bit\n", terminal.green("verified"));
}

}  // namespace

std::string bench_table(const BenchConfig& config, const BenchResult& result, const Terminal& terminal) {
  const std::string times =
      fmt::format("{:<10}{:>11}{:>11}{:>11}{:>11}{:>11}   {:>11}", "", "median", "p90", "p99", "min", "moved", "rate");
  const std::string phases =
      time_row("dispatch", result.dispatch, terminal) + time_row("combine", result.combine, terminal);
  const std::string rest = result.round_trip
                               ? time_row("round trip", *result.round_trip, terminal) + loops_line(config) + "\n"
                               : "\n" + parts_part(result, terminal) + copying_line(result);
  return fmt::format("{}{}\n{}{}{}{}{}", title(config, result.num_devices, terminal), terminal.dim(times), phases, rest,
                     logfmt_line(result), memory_line(result.memory), verdict_line(result, terminal));
}

}  // namespace crossdock::tool
