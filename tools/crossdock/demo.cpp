// crossdock demo: the main job on real input.
#include <algorithm>
#include <iostream>
#include <memory>

#include "base/error.hpp"
#include "crossdock/command.hpp"
#include "crossdock/data_directory.hpp"
#include "crossdock/demo_low_latency.hpp"
#include "crossdock/demo_report.hpp"

namespace crossdock::tool {

namespace {

struct DemoCommand {
  DemoSetting setting;
  std::string data_directory;
  ColourChoice colour = ColourChoice::kAuto;
};

std::string_view name_of(DemoStage stage) {
  switch (stage) {
    case DemoStage::kJoining: return "joining";
    case DemoStage::kDispatching: return "dispatching tokens";
    case DemoStage::kComputing: return "running experts";
    case DemoStage::kCombining: return "combining answers";
    case DemoStage::kDone: return "done";
  }
  return "unknown";
}

/// What the rank that is furthest behind does, and how many are past that.
std::string describe_progress(const DemoShared& shared) {
  const auto stages = shared.stages.values();
  int slowest = static_cast<int>(DemoStage::kDone);
  for (const auto& stage : stages) slowest = std::min(slowest, stage.load(std::memory_order_relaxed));
  const auto done = std::count_if(stages.begin(), stages.end(), [](const auto& stage) {
    return stage.load(std::memory_order_relaxed) == static_cast<int>(DemoStage::kDone);
  });
  return fmt::format("{} ... {} of {} ranks are done", name_of(static_cast<DemoStage>(slowest)), done,
                     shared.num_ranks);
}

std::string title(const DemoSetting& setting, const MoeLayer& layer, const Terminal& terminal) {
  const std::string_view how = setting.operations == OperationMode::kLowLatency ? ", in low-latency mode" : "";
  return fmt::format("{}\n{} tokens of {} channels, {} experts, top-{}; {} ranks ({}), experts answer in {}\n",
                     terminal.bold(fmt::format("One layer of a trained mixture-of-experts model{}", how)),
                     layer.num_tokens, layer.hidden, layer.num_experts, layer.num_topk, setting.num_ranks,
                     setting.mode == RankMode::kProcesses ? "processes" : "threads", name_of(setting.combine_dtype));
}

void run_ranks_of(const DemoSetting& setting, const MoeLayer& layer, const DemoShared& shared) {
  DemoRankOptions options;
  options.combine_dtype = setting.combine_dtype;
  ProgressLine progress;
  LaunchOptions launch;
  launch.num_ranks = setting.num_ranks;
  launch.mode = setting.mode;
  launch.while_waiting = [&] { progress.show(describe_progress(shared)); };
  const auto run_rank = setting.operations == OperationMode::kLowLatency ? run_low_latency_demo_rank : run_demo_rank;
  run_ranks_or_throw(launch,
                     [&](const std::shared_ptr<Bootstrap>& bootstrap) { run_rank(layer, options, shared, bootstrap); });
}

int run_demo(const DemoCommand& command) {
  require(command.setting.operations == OperationMode::kNormal || command.setting.combine_dtype == DataType::kBfloat16,
          "--answers float32 is for --mode normal; the low-latency combine takes bf16");
  const Terminal terminal = Terminal::of_output(command.colour);
  const MoeLayer layer = load_moe_layer(find_data_directory(command.data_directory) / "moe_layer.safetensors");
  const DemoShared shared(command.setting.num_ranks, layer);
  std::cout << title(command.setting, layer, terminal) << std::flush;
  run_ranks_of(command.setting, layer, shared);
  std::cout << demo_report(command.setting, layer, shared, terminal);
  return demo_passed(command.setting, layer, shared) ? kExitGood : kExitFailed;
}

}  // namespace

void add_demo_command(CLI::App& app, Action& chosen) {
  auto* command = app.add_subcommand("demo", "Run a layer of a trained model through dispatch and combine");
  auto state = std::make_shared<DemoCommand>();
  command->add_option("--ranks", state->setting.num_ranks, "Ranks that share the 64 experts and 2048 tokens")
      ->check(in_range(1, kMaxRanks))
      ->capture_default_str();
  add_choice<OperationMode>(*command, "--mode", state->setting.operations,
                            {{"normal", OperationMode::kNormal}, {"low-latency", OperationMode::kLowLatency}},
                            "Kind of operation: in low-latency mode combine applies the router's weights");
  add_choice<DataType>(*command, "--answers", state->setting.combine_dtype,
                       {{"bf16", DataType::kBfloat16}, {"float32", DataType::kFloat32}},
                       "Type of the experts' answers; float32 shows that nothing but rounding is lost");
  command->add_flag_callback(
      "--threads", [state] { state->setting.mode = RankMode::kThreads; }, "Ranks are threads, not processes");
  add_data_option(*command, state->data_directory);
  add_colour_option(*command, state->colour);
  command->footer(
      "Each rank routes its tokens with the recorded router's choices, dispatches them, runs its experts on what it\n"
      "received, and combines the answers. The result is compared with the recorded output of the layer.\n\n"
      "Examples:\n"
      "  crossdock demo\n"
      "  crossdock demo --ranks 3 --answers float32\n"
      "  crossdock demo --mode low-latency --ranks 4");
  command->callback([state, &chosen] { chosen = [state] { return run_demo(*state); }; });
}

}  // namespace crossdock::tool
