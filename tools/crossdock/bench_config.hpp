// What one benchmark run does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <crossdock/types.hpp>

#include "crossdock/operation_mode.hpp"
#include "crossdock/rank_launcher.hpp"
#include "crossdock/routing.hpp"

namespace crossdock::tool {

enum class PayloadType : unsigned char {
  kBf16,  ///< rows of bfloat16
  kFp8,   ///< rows of float8_e4m3 with one float32 scale per 128 channels
};

/// Where the rows are that combine reads.
enum class CombineSource : unsigned char {
  kUsual,    ///< in normal mode kInPlace, with LogFMT kOutside, else and with fp8 kArena
  kInPlace,  ///< the received rows themselves (bf16 only)
  kArena,    ///< Buffer::combine_input, next_combine_buffer
  kOutside,  ///< private memory, which costs combine a staging copy
};

struct BenchConfig {
  static constexpr std::int64_t kScaleBlock = 128;  ///< channels per scale

  OperationMode mode = OperationMode::kNormal;
  int num_ranks = 2;
  std::int64_t num_tokens = 4096;
  std::int64_t hidden = 7168;
  std::optional<int> num_topk;     ///< the trace's, or 8
  std::optional<int> num_experts;  ///< the trace's, or 64
  PayloadType dtype = PayloadType::kBf16;
  std::string routing = "uniform";  ///< or FILE.safetensors[:layer]
  int iterations = 20;
  int warmup = 3;
  std::uint64_t seed = 1;
  RankMode rank_mode = RankMode::kProcesses;
  CombineSource combine_source = CombineSource::kUsual;  ///< complete() decides
  bool use_logfmt = false;                               ///< low-latency combine: rows travel as LogFMT-10
  DeviceType device = DeviceType::kHost;                 ///< where the tensors lie
  int num_sms = 0;            ///< multiprocessors that an operation may use; 0: the backend's choice
  bool cached = false;        ///< dispatches repeat the routing of the first
  bool worst_case = false;    ///< dispatches are told how many rows will come
  std::optional<int> expand;  ///< dispatches are expanded, with this alignment
  std::string data_directory;
  std::string json_path;  ///< empty: none; "-": standard output, instead of the table
  int timeout_seconds = 600;

  [[nodiscard]] std::int64_t row_bytes() const { return dtype == PayloadType::kFp8 ? hidden : 2 * hidden; }
  /// The last group of a row may be short in low-latency mode.
  [[nodiscard]] std::int64_t num_scales() const {
    return dtype == PayloadType::kFp8 ? (hidden + kScaleBlock - 1) / kScaleBlock : 0;
  }
  /// What dispatch is given: low-latency mode makes fp8 of bf16.
  [[nodiscard]] PayloadType input_dtype() const {
    return mode == OperationMode::kLowLatency ? PayloadType::kBf16 : dtype;
  }
  [[nodiscard]] std::int64_t combine_row_bytes() const { return 2 * hidden; }
  [[nodiscard]] TokenRows token_rows() const { return expand ? TokenRows::kSelections : TokenRows::kRanks; }
  /// Bytes of a dispatched row, scales included.
  [[nodiscard]] std::int64_t payload_bytes() const { return row_bytes() + 4 * num_scales(); }
};

[[nodiscard]] std::string_view name_of(PayloadType type) noexcept;
[[nodiscard]] std::string_view name_of(CombineSource source) noexcept;
[[nodiscard]] std::string_view name_of(RankMode mode) noexcept;
[[nodiscard]] std::string_view name_of(DeviceType type) noexcept;

/// Fills in what depends on other fields. Throws kInvalidArgument for fields that do not fit together.
void complete(BenchConfig& config);

/// Random or from the trace that the configuration names; sets the configuration's top-k and experts.
[[nodiscard]] Routing make_routing(BenchConfig& config);

}  // namespace crossdock::tool
