// The kernel of a low-latency dispatch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/party.hpp"

namespace crossdock::cuda::device {

inline constexpr int kDispatchThreads = 1024;  ///< of a block

/// Where a selection of a token went: LowLatencyHandle::State::Place.
struct Place {
  std::int32_t owner;       ///< -1: nowhere
  std::int32_t packed_row;  ///< of nowhere: the expert that was to have it, -1 if none, kUnknown if the dispatch failed
  std::int64_t row;

  static constexpr std::int32_t kUnknown = -2;
};

/// An expert that a token goes to, -1: none, and how many rows of its rank come before it there.
struct RouteEntry {
  std::int32_t expert;
  std::int32_t ordinal;
};

enum class Cast : std::uint32_t { kNone, kFloat8, kFloat8PowerOfTwo, kFloat8Ue8m0 };

/// What a rank stages for the others: a row, scales and [K] route entries for each token. Offsets from its beginning.
class ParcelLayout {
 public:
  constexpr ParcelLayout(std::int64_t num_tokens, std::int64_t hidden, Cast cast, std::int32_t num_topk)
      : row_bytes_(cast == Cast::kNone ? 2 * hidden : hidden),
        scale_words_(cast == Cast::kNone          ? 0
                     : cast == Cast::kFloat8Ue8m0 ? (hidden + 4 * kGroup - 1) / (4 * kGroup)
                                                  : (hidden + kGroup - 1) / kGroup),
        num_topk_(num_topk),
        scales_(kHeaderBytes + num_tokens * round_up(row_bytes_)),
        routes_(round_up(scales_ + num_tokens * scale_words_ * 4)),
        bytes_(round_up(routes_ + num_tokens * num_topk * static_cast<std::int64_t>(sizeof(RouteEntry)))) {}

  static constexpr std::int64_t kGroup = 128;  ///< channels that share a scale

  [[nodiscard]] constexpr std::int64_t row_bytes() const { return row_bytes_; }
  [[nodiscard]] constexpr std::int64_t scale_words() const { return scale_words_; }
  [[nodiscard]] constexpr std::int64_t row(std::int64_t token) const {
    return kHeaderBytes + token * round_up(row_bytes_);
  }
  [[nodiscard]] constexpr std::int64_t scales(std::int64_t token) const { return scales_ + token * scale_words_ * 4; }
  [[nodiscard]] constexpr std::int64_t routes(std::int64_t token) const {
    return routes_ + token * num_topk_ * static_cast<std::int64_t>(sizeof(RouteEntry));
  }
  [[nodiscard]] constexpr std::int64_t bytes() const { return bytes_; }

 private:
  static constexpr std::int64_t kHeaderBytes = ParcelHeader::kBytes;

  [[nodiscard]] static constexpr std::int64_t round_up(std::int64_t bytes) {
    return (bytes + kHeaderBytes - 1) / kHeaderBytes * kHeaderBytes;
  }

  std::int64_t row_bytes_;
  std::int64_t scale_words_;
  std::int64_t num_topk_;
  std::int64_t scales_;
  std::int64_t routes_;
  std::int64_t bytes_;
};

/// N tokens, H hidden, K top-k, E experts of which L are this rank's, M tokens at most.
struct LowLatencyDispatchArgs {
  Party party;
  Cast cast = Cast::kNone;
  std::int32_t num_topk = 0;
  std::int32_t num_experts = 0;
  std::int32_t id_bytes = 8;
  std::int64_t num_tokens = 0;
  std::int64_t hidden = 0;
  std::int64_t max_tokens = 0;
  std::uint32_t is_captured = 0;         ///< the parcel may be in use when the kernel begins
  const std::byte* x = nullptr;          ///< bfloat16 [N, H]
  std::int64_t x_stride = 0;             ///< bytes
  const std::byte* topk_idx = nullptr;   ///< [N, K]
  std::byte* parcel = nullptr;           ///< in this rank's window
  std::byte* recv_x = nullptr;           ///< [L, R * M, H]
  std::uint32_t* scales = nullptr;       ///< [L, columns, R * M]
  std::int32_t* count = nullptr;         ///< [L]
  std::int32_t* src_info = nullptr;      ///< [L, R * M]
  std::int64_t* layout_range = nullptr;  ///< [L, R]
  Place* places = nullptr;               ///< [N, K]
  std::int32_t* statistics = nullptr;    ///< [L], or null
  Completion completion;                 ///< of the last half that this kernel does; flag null: nobody waits
};
static_assert(sizeof(LowLatencyDispatchArgs) <= 4096);

/// Experts that a kernel's tables have room for.
[[nodiscard]] int max_low_latency_experts();
/// Before any rank's kernels run: one that is loaded when it is first launched may have to wait for those that run,
/// which may wait for it.
cudaError_t load_low_latency_dispatch();
/// Occupies at most `num_sms` multiprocessors.
cudaError_t launch_low_latency_dispatch(const LowLatencyDispatchArgs& args, int num_sms, cudaStream_t stream);

}  // namespace crossdock::cuda::device
