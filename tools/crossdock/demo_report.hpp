// What the demonstration shows.
#pragma once

#include <span>
#include <string>

#include <crossdock/types.hpp>

#include "crossdock/demo_rank.hpp"
#include "crossdock/operation_mode.hpp"
#include "crossdock/rank_launcher.hpp"
#include "crossdock/terminal.hpp"

namespace crossdock::tool {

/// How far an output is from the recorded one, relative to the recorded one's size.
struct OutputError {
  double largest = 0;  ///< largest |difference| / largest |recorded|
  double mean = 0;     ///< mean |difference| / mean |recorded|
};
/// A NaN in `output` makes both infinite. REQUIRES: same size, `recorded` not all zero.
[[nodiscard]] OutputError compare_outputs(std::span<const float> output, std::span<const float> recorded);

/// What rounding may cost. bfloat16 keeps 8 bits, so one rounding moves a value by at most 1/512 of it: each rank's
/// answer (in low-latency mode each expert's) is rounded once and their sum once more; answers may be larger than what
/// is left of their sum, which is why the bound on the largest error is a few such steps. float32 answers leave only
/// the order of summation.
[[nodiscard]] OutputError allowed_error(DataType combine_dtype);

struct DemoSetting {
  int num_ranks = 8;
  OperationMode operations = OperationMode::kNormal;
  RankMode mode = RankMode::kProcesses;
  DataType combine_dtype = DataType::kBfloat16;
};

/// Heat map, load of the experts, times, verdict; at most 100 columns.
[[nodiscard]] std::string demo_report(const DemoSetting& setting, const MoeLayer& layer, const DemoShared& shared,
                                      const Terminal& terminal);

/// Whether the output is as it should be.
[[nodiscard]] bool demo_passed(const DemoSetting& setting, const MoeLayer& layer, const DemoShared& shared);

}  // namespace crossdock::tool
