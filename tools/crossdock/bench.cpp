// crossdock bench: how fast are dispatch and combine here?
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>

#include "base/error.hpp"
#include "crossdock/bench_input.hpp"
#include "crossdock/bench_low_latency.hpp"
#include "crossdock/bench_low_latency_cuda.hpp"
#include "crossdock/bench_rank.hpp"
#include "crossdock/bench_report.hpp"
#include "crossdock/command.hpp"

namespace crossdock::tool {

namespace {

struct BenchCommand {
  BenchConfig config;
  ColourChoice colour = ColourChoice::kAuto;
};

/// Of the result of a dispatch, padding included.
std::int64_t received_rows(const BenchConfig& config, const Routing& routing, const std::vector<std::int64_t>& rows,
                           int rank) {
  if (config.expand) return count_aligned_rows(routing, *config.expand, rank);
  const auto ranks = static_cast<std::size_t>(config.num_ranks);
  std::int64_t sum = 0;
  for (std::size_t source = 0; source < ranks; ++source) sum += rows[source * ranks + static_cast<std::size_t>(rank)];
  return sum;
}

std::int64_t count_selections(const Routing& routing) {
  return std::count_if(routing.topk_idx.begin(), routing.topk_idx.end(), [](std::int32_t id) { return id >= 0; });
}

std::string describe_progress(const BenchConfig& config, int done) {
  const int all = config.iterations + config.warmup;
  const bool is_looping = config.mode == OperationMode::kLowLatency && done == all;
  return is_looping ? "round trips" : fmt::format("iteration {} of {}", done, all);
}

BenchResult measure(const BenchConfig& config, const Routing& routing) {
  const bool is_low_latency = config.mode == OperationMode::kLowLatency;
  const auto rows = count_rows(routing, config.token_rows());
  if (is_low_latency) {
    check_low_latency_memory(config);
  } else {
    check_memory(config, rows);
  }
  const RowPattern pattern(config.hidden, config.seed, config.use_logfmt ? RowRange::kBelowOne : RowRange::kAroundOne);
  const BenchWorld world{config, routing, pattern};
  const BenchShared shared(config.num_ranks, config.iterations);
  ProgressLine progress;
  LaunchOptions launch;
  launch.num_ranks = config.num_ranks;
  launch.mode = config.rank_mode;
  launch.timeout = std::chrono::seconds(config.timeout_seconds);
  launch.while_waiting = [&] {
    const int done = shared.iterations_done[0].load(std::memory_order_relaxed);
    progress.show(describe_progress(config, done));
  };
  run_ranks_or_throw(launch, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    if (is_low_latency) {
      const bool is_host = config.device == DeviceType::kHost;
      (is_host ? run_low_latency_bench_rank : run_low_latency_cuda_bench_rank)(world, shared, bootstrap);
      return;
    }
    run_bench_rank(world, received_rows(config, routing, rows, bootstrap->rank()), shared, bootstrap);
  });
  return evaluate(
      config, shared,
      is_low_latency ? count_selections(routing) : std::accumulate(rows.begin(), rows.end(), std::int64_t{0}));
}

void write_json(const BenchConfig& config, const BenchResult& result) {
  if (config.json_path.empty()) return;
  const std::string text = bench_json(config, result);
  if (config.json_path == "-") {
    std::cout << text;
    return;
  }
  std::ofstream file(config.json_path);
  file << text;
  file.close();
  if (!file) throw make_error(ErrorCode::kSystem, "cannot write --json {}", config.json_path);
}

int run_bench(BenchCommand command) {
  complete(command.config);
  const Routing routing = make_routing(command.config);
  const BenchResult result = measure(command.config, routing);
  if (command.config.json_path != "-") {
    std::cout << bench_table(command.config, result, Terminal::of_output(command.colour));
  }
  write_json(command.config, result);
  return result.verified ? kExitGood : kExitFailed;
}

void add_shape_options(CLI::App& command, BenchConfig& config) {
  constexpr std::int64_t kMaxTokens = 1 << 20;
  constexpr std::int64_t kMaxHidden = 1 << 16;
  constexpr int kMaxTopk = 64;
  constexpr int kMaxExperts = 2048;
  command.add_option("--ranks", config.num_ranks, "Ranks on this machine")
      ->check(in_range(1, kMaxRanks))
      ->capture_default_str();
  command.add_option("--tokens", config.num_tokens, "Tokens of each rank")
      ->check(in_range(std::int64_t{0}, kMaxTokens))
      ->capture_default_str();
  command.add_option("--hidden", config.hidden, "Channels of a token")
      ->check(in_range(std::int64_t{1}, kMaxHidden))
      ->capture_default_str();
  command.add_option("--topk", config.num_topk, "Experts of each token (default: the trace's, or 8)")
      ->check(in_range(1, kMaxTopk));
  command.add_option("--experts", config.num_experts, "Experts of all ranks (default: the trace's, or 64)")
      ->check(in_range(1, kMaxExperts));
}

void add_run_options(CLI::App& command, BenchConfig& config) {
  constexpr int kMaxIterations = 1'000'000;
  command.add_option("--iterations", config.iterations, "Timed rounds of dispatch and combine")
      ->check(in_range(1, kMaxIterations))
      ->capture_default_str();
  command.add_option("--warmup", config.warmup, "Rounds before them")
      ->check(in_range(0, kMaxIterations))
      ->capture_default_str();
  command.add_option("--seed", config.seed, "Of rows and uniform routing")->capture_default_str();
  command.add_option("--timeout", config.timeout_seconds, "Seconds after which the run is given up")
      ->check(in_range(1, 86400))
      ->capture_default_str();
  add_choice<DeviceType>(
      command, "--backend", config.device, {{"host", DeviceType::kHost}, {"cuda", DeviceType::kCuda}},
      "Where tensors lie: in host memory, or on the CUDA devices, of which ranks take one after the other");
  command.add_option("--sms", config.num_sms, "Multiprocessors that an operation may use (cuda; default: its choice)")
      ->check(in_range(0, 1024));
  auto* processes = command.add_flag_callback(
      "--processes", [&config] { config.rank_mode = RankMode::kProcesses; }, "Ranks are processes (default)");
  command
      .add_flag_callback(
          "--threads", [&config] { config.rank_mode = RankMode::kThreads; }, "Ranks are threads")
      ->excludes(processes);
}

void add_data_options(CLI::App& command, BenchConfig& config) {
  add_choice<OperationMode>(command, "--mode", config.mode,
                            {{"normal", OperationMode::kNormal}, {"low-latency", OperationMode::kLowLatency}},
                            "Kind of operation: low-latency has one row per token and expert, and M = --tokens");
  add_choice<PayloadType>(command, "--dtype", config.dtype, {{"bf16", PayloadType::kBf16}, {"fp8", PayloadType::kFp8}},
                          "Rows that are dispatched; fp8 adds a scale per 128 channels");
  command
      .add_option("--routing", config.routing,
                  "uniform, or a recorded trace (first ranks and tokens of a layer); a bare name is sought in data")
      ->type_name("uniform|FILE.safetensors[:LAYER]")
      ->capture_default_str();
  add_choice<CombineSource>(
      command, "--combine-input", config.combine_source,
      {{"inplace", CombineSource::kInPlace}, {"arena", CombineSource::kArena}, {"outside", CombineSource::kOutside}},
      "Combine reads the received rows, a copy in the arena, or private memory (fp8: not in place)");
  command.add_flag("--logfmt", config.use_logfmt,
                   "Low-latency combine: rows travel as LogFMT-10; magnitudes are below 1, so that it casts them");
  command.add_flag("--cached", config.cached, "Dispatches repeat the routing of the first: nothing is counted");
  command.add_flag("--worst-case", config.worst_case,
                   "Dispatches are told how many rows will come (num_worst_tokens): on a device they need no host");
  command
      .add_option("--expand", config.expand,
                  "Dispatches are expanded: a row for each selection, grouped by expert from multiples of N on")
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
  command.add_option("--json", config.json_path, "Write the result to this file, too; - is standard output")
      ->type_name("FILE");
  add_data_option(command, config.data_directory);
}

}  // namespace

void add_bench_command(CLI::App& app, Action& chosen) {
  auto* command = app.add_subcommand("bench", "Measure dispatch and combine");
  auto state = std::make_shared<BenchCommand>();
  add_shape_options(*command, state->config);
  add_data_options(*command, state->config);
  add_run_options(*command, state->config);
  add_colour_option(*command, state->colour);
  command->footer(
      "The time of an iteration is that of the slowest rank, from a barrier. Each rank's expert does nothing; the "
      "last\n"
      "iteration is compared with the serial reference.\n\n"
      "Examples:\n"
      "  crossdock bench --ranks 2 --tokens 4096 --hidden 7168 --topk 8 --experts 64\n"
      "  crossdock bench --ranks 8 --hidden 2048 --routing trace_e256_k8.safetensors:1\n"
      "  crossdock bench --ranks 4 --tokens 128 --hidden 7168 --dtype fp8 --iterations 200 --json result.json\n"
      "  crossdock bench --mode low-latency --ranks 2 --tokens 8 --iterations 1000");
  command->callback([state, &chosen] { chosen = [state] { return run_bench(*state); }; });
}

}  // namespace crossdock::tool
