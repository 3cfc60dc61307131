// What one rank of a benchmark brings, and the arena that it needs.
#pragma once

#include <cstdint>
#include <vector>

#include <crossdock/buffer.hpp>

#include "crossdock/bench_config.hpp"
#include "crossdock/routing.hpp"
#include "crossdock/row_pattern.hpp"

namespace crossdock::tool {

/// Uninitialized row-major tensor in private memory.
[[nodiscard]] Tensor allocate_tensor(DataType dtype, std::initializer_list<std::int64_t> shape);

/// x, scales and top-k of a rank, filled.
[[nodiscard]] DispatchInput make_bench_input(const BenchConfig& config, const Routing& routing,
                                             const RowPattern& pattern, int rank);

/// Bytes of the tensors.
[[nodiscard]] std::int64_t count_bytes(const DispatchInput& input);
[[nodiscard]] std::int64_t count_bytes(const DispatchOutput& output);
[[nodiscard]] std::int64_t count_bytes(const LowLatencyDispatchOutput& output);

/// Arena of a rank that receives that many rows.
[[nodiscard]] std::size_t bench_arena_bytes(const BenchConfig& config, std::int64_t num_recv_rows);
/// Arena of a rank in low-latency mode, with M = T.
[[nodiscard]] std::size_t low_latency_bench_arena_bytes(const BenchConfig& config);

/// Throws kCapacity, with the bytes needed and available, if the whole run does not fit this machine's free memory.
/// `rows` as count_rows gives them.
void check_memory(const BenchConfig& config, const std::vector<std::int64_t>& rows);
/// The same for low-latency mode.
void check_low_latency_memory(const BenchConfig& config);

}  // namespace crossdock::tool
