#include "crossdock/bench_config.hpp"

#include <charconv>

#include "base/error.hpp"
#include "crossdock/data_directory.hpp"

namespace crossdock::tool {

namespace {

constexpr int kDefaultTopk = 8;
constexpr int kDefaultExperts = 64;

struct TraceName {
  std::string file;
  std::int64_t layer = 0;
};

/// "FILE:3" is layer 3 of FILE; a colon that no number follows belongs to the name.
TraceName parse_trace_name(const std::string& text) {
  const auto colon = text.rfind(':');
  TraceName result{text, 0};
  if (colon == std::string::npos) return result;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, result.layer);
  if (parsed.ec != std::errc{} || parsed.ptr != end) return {text, 0};
  result.file = text.substr(0, colon);
  return result;
}

}  // namespace

std::string_view name_of(PayloadType type) noexcept { return type == PayloadType::kBf16 ? "bf16" : "fp8"; }

std::string_view name_of(CombineSource source) noexcept {
  switch (source) {
    case CombineSource::kUsual: return "usual";
    case CombineSource::kInPlace: return "inplace";
    case CombineSource::kArena: return "arena";
    case CombineSource::kOutside: return "outside";
  }
  return "unknown";
}

std::string_view name_of(RankMode mode) noexcept { return mode == RankMode::kProcesses ? "processes" : "threads"; }

std::string_view name_of(DeviceType type) noexcept { return type == DeviceType::kHost ? "host" : "cuda"; }

void complete(BenchConfig& config) {
  const bool is_low_latency = config.mode == OperationMode::kLowLatency;
  require(!is_low_latency || !config.cached, "--cached belongs to --mode normal");
  require(!is_low_latency || !config.worst_case, "--worst-case belongs to --mode normal");
  require(!is_low_latency || !config.expand,
          "--expand belongs to --mode normal: low-latency mode has such rows anyway");
  require(is_low_latency || !config.use_logfmt, "--logfmt belongs to --mode low-latency");
  const bool is_fp8 = config.dtype == PayloadType::kFp8;
  if (is_fp8 && !is_low_latency) {
    require(config.hidden % BenchConfig::kScaleBlock == 0,
            "--dtype fp8 has one scale per {} channels, so --hidden must be a multiple of {}, not {}",
            BenchConfig::kScaleBlock, BenchConfig::kScaleBlock, config.hidden);
  }
  require(!config.use_logfmt || config.combine_source != CombineSource::kArena,
          "--logfmt makes a copy and --combine-input arena is zero copy; inplace and outside are allowed");
  if (config.combine_source == CombineSource::kUsual && config.use_logfmt) {
    config.combine_source = CombineSource::kOutside;
  }
  if (config.combine_source == CombineSource::kUsual) {
    config.combine_source = is_low_latency ? CombineSource::kArena : CombineSource::kInPlace;
  }
  // The experts' rows are bfloat16.
  if (is_fp8 && config.combine_source == CombineSource::kInPlace) {
    config.combine_source = config.use_logfmt ? CombineSource::kOutside : CombineSource::kArena;
  }
}

Routing make_routing(BenchConfig& config) {
  if (config.routing == "uniform") {
    config.num_topk = config.num_topk.value_or(kDefaultTopk);
    config.num_experts = config.num_experts.value_or(kDefaultExperts);
    return make_uniform_routing({config.num_ranks, config.num_tokens, *config.num_topk, *config.num_experts},
                                config.seed);
  }
  const TraceName name = parse_trace_name(config.routing);
  const auto path = find_data_file(name.file, config.data_directory);
  auto result =
      load_trace_routing(path, {config.num_ranks, config.num_tokens, config.num_topk, config.num_experts, name.layer});
  config.num_topk = result.shape.num_topk;
  config.num_experts = result.shape.num_experts;
  return result;
}

}  // namespace crossdock::tool
