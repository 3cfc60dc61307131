// A benchmark's result for people and for programs.
#pragma once

#include <string>

#include "crossdock/bench_result.hpp"
#include "crossdock/terminal.hpp"

namespace crossdock::tool {

/// Several lines, at most 100 columns.
[[nodiscard]] std::string bench_table(const BenchConfig& config, const BenchResult& result, const Terminal& terminal);

/// JSON as docs/command-line.md describes it ("schema": 1).
[[nodiscard]] std::string bench_json(const BenchConfig& config, const BenchResult& result);

}  // namespace crossdock::tool
