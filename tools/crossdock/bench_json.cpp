#include <utility>

#include <nlohmann/json.hpp>

#include "crossdock/bench_report.hpp"
#include "crossdock/machine.hpp"

namespace crossdock::tool {

namespace {

using Json = nlohmann::ordered_json;

Json config_json(const BenchConfig& config) {
  return {{"mode", name_of(config.mode)},
          {"ranks", config.num_ranks},
          {"tokens", config.num_tokens},
          {"hidden", config.hidden},
          {"topk", *config.num_topk},
          {"experts", *config.num_experts},
          {"dtype", name_of(config.dtype)},
          {"routing", config.routing},
          {"iterations", config.iterations},
          {"warmup", config.warmup},
          {"seed", config.seed},
          {"launch", name_of(config.rank_mode)},
          {"combine_input", name_of(config.combine_source)},
          {"backend", name_of(config.device)},
          {"sms", config.num_sms},
          {"cached", config.cached},
          {"worst_case", config.worst_case},
          {"expand", config.expand ? Json(*config.expand) : Json()},
          {"logfmt", config.use_logfmt}};
}

Json machine_json(const Machine& machine) {
  return {{"cpu", machine.cpu},       {"cores", machine.cores},       {"memory_bytes", machine.memory_bytes},
          {"kernel", machine.kernel}, {"compiler", machine.compiler}, {"simd", machine.simd}};
}

Json times_json(const PhaseResult& phase) {
  return {{"p50_us", phase.p50_us}, {"p90_us", phase.p90_us}, {"p99_us", phase.p99_us},
          {"min_us", phase.min_us}, {"bytes", phase.bytes},   {"gb_per_s", phase.gb_per_s()}};
}

Json phase_json(const PhaseResult& phase) {
  Json json = times_json(phase);
  json["parts"] = {{"layout_us", phase.parts.layout_us}, {"announce_us", phase.parts.announce_us},
                   {"place_us", phase.parts.place_us},   {"copy_us", phase.parts.copy_us},
                   {"wait_us", phase.parts.wait_us},     {"copy_cpu_us", phase.parts.copy_cpu_us}};
  json["copy_share"] = phase.copy_share;
  return json;
}

Json phases_json(const BenchConfig& config, const BenchResult& result) {
  if (!result.round_trip) return {{"dispatch", phase_json(result.dispatch)}, {"combine", phase_json(result.combine)}};
  Json round_trip = times_json(*result.round_trip);
  round_trip["blocks"] = BenchShared::kRoundTripBlocks;
  round_trip["loops_per_block"] = config.iterations;
  round_trip["allocations"] = result.memory.loop_allocations;
  return {{"dispatch", times_json(result.dispatch)},
          {"combine", times_json(result.combine)},
          {"round_trip", std::move(round_trip)}};
}

Json logfmt_json(const BenchResult& result) {
  return {{"bf16_bytes", result.combine.bytes},
          {"wire_bytes", *result.wire_bytes},
          {"saved_percent", saved_percent(result)}};
}

Json memory_json(const RankSummary& memory) {
  return {{"pss_bytes", memory.pss_bytes},
          {"inputs_bytes", memory.inputs_bytes},
          {"received_bytes", memory.received_bytes},
          {"outputs_bytes", memory.outputs_bytes}};
}

}  // namespace

std::string bench_json(const BenchConfig& config, const BenchResult& result) {
  Json json{{"schema", 1},
            {"config", config_json(config)},
            {"machine", machine_json(describe_machine())},
            {"verified", result.verified},
            {"phases", phases_json(config, result)},
            {"memory", memory_json(result.memory)}};
  if (result.num_devices > 0) json["devices"] = result.num_devices;
  if (result.wire_bytes) json["logfmt"] = logfmt_json(result);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace crossdock::tool
