#include <algorithm>

#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/copy.hpp"
#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/row_access.hpp"

namespace crossdock::cuda::device {

namespace {

constexpr int kThreads = 1024;
constexpr int kLoads = 4;  ///< of a thread that are in flight at once

// Of bulk copies, by a block. docs/cuda.md has what other numbers take.
constexpr int kFetches = 8;  ///< that are in flight at once
constexpr int kPuts = 8;     ///< the same
constexpr int kStages = kFetches + kPuts;
constexpr int kDeviceBytes = 4 << 20;  ///< fetched at once by all blocks of a device
constexpr int kLeastPiece = 4096;
constexpr int kMostPiece = 12288;
constexpr int kPieceUnit = 128;

__device__ CopyRows thread_rows_of(const CopyArgs& args) {
  return args.rows_on_device != nullptr ? *args.rows_on_device : args.rows;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1) copy_kernel(const __grid_constant__ CopyArgs args) {
  const std::int64_t count = args.row_bytes / static_cast<std::int64_t>(sizeof(T));
  const int pieces = static_cast<int>((count + kLoads * kWarpThreads - 1) / (kLoads * kWarpThreads));
  const CopyRows rows = thread_rows_of(args);
  for (WarpItem item(rows.num_rows - rows.skip_count, pieces); item.is_valid(); item.step()) {
    const std::int64_t row = rows.row_of(item.token());
    const auto* from = reinterpret_cast<const T*>(args.from + row * args.stride);
    auto* to = reinterpret_cast<T*>(args.to + row * args.row_bytes);
    const LanePiece<kLoads> piece(item.piece(), count);
    T values[kLoads];
    piece.for_each([&](int i, std::int64_t at) { values[i] = thread_load(from + at); });
    piece.for_each([&](int i, std::int64_t at) { thread_store(to + at, values[i]); });
  }
  block_complete(args.completion);
}

#ifdef CROSSDOCK_HAS_BULK_COPIES
/// What bulk copies copy, and where a block is in it. Rows without a gap between them are cut as if they were one, so
/// that all pieces are as long; then a little of what is to be left out may be copied too.
class BulkPieces {
 public:
  __device__ BulkPieces(const CopyArgs& args, int piece_bytes)
      : args_(args),
        piece_bytes_(piece_bytes),
        rows_(thread_rows_of(args)),
        is_flat_(args.stride == args.row_bytes),
        unit_bytes_(is_flat_ ? rows_.num_rows * args.row_bytes : args.row_bytes),
        item_(0, 0) {
    const auto pieces_of = [&](std::int64_t bytes) { return (bytes + piece_bytes - 1) / piece_bytes; };
    if (is_flat_) {
      const std::int64_t skip_end = (rows_.skip_begin + rows_.skip_count) * args.row_bytes / piece_bytes;
      rows_.num_rows = pieces_of(unit_bytes_);
      rows_.skip_begin = pieces_of(rows_.skip_begin * args.row_bytes);
      rows_.skip_count = max(skip_end - rows_.skip_begin, std::int64_t{0});
    }
    item_ = WarpItem(rows_.num_rows - rows_.skip_count, is_flat_ ? 1 : static_cast<int>(pieces_of(args.row_bytes)));
  }

  [[nodiscard]] __device__ bool is_valid() const { return item_.is_valid(); }
  __device__ void step() { item_.step(); }
  [[nodiscard]] __device__ const std::byte* from() const {
    return args_.from + row() * (is_flat_ ? piece_bytes_ : args_.stride) + begin();
  }
  [[nodiscard]] __device__ std::byte* to() const {
    return args_.to + row() * (is_flat_ ? piece_bytes_ : args_.row_bytes) + begin();
  }
  [[nodiscard]] __device__ unsigned bytes() const {
    const std::int64_t left = unit_bytes_ - (is_flat_ ? row() * piece_bytes_ : begin());
    return static_cast<unsigned>(min(left, piece_bytes_));
  }

 private:
  [[nodiscard]] __device__ std::int64_t row() const { return rows_.row_of(item_.token()); }
  [[nodiscard]] __device__ std::int64_t begin() const { return item_.piece() * piece_bytes_; }

  const CopyArgs& args_;
  std::int64_t piece_bytes_;
  CopyRows rows_;  ///< or pieces
  bool is_flat_;
  std::int64_t unit_bytes_;  ///< of a row, or of all
  WarpItem item_;
};

/// One thread keeps a ring of stages in shared memory full.
__device__ void thread_copy_in_bulk(const CopyArgs& args, int piece_bytes, std::byte* stages, std::uint64_t* fetched) {
  for (int stage = 0; stage < kStages; ++stage) thread_begin_fetches(&fetched[stage]);
  thread_fence_fetches();
  BulkPieces next(args, piece_bytes);
  const auto fetch = [&](int stage) {
    thread_fetch(stages + stage * piece_bytes, next.from(), next.bytes(), &fetched[stage]);
    next.step();
  };
  for (int stage = 0; stage < kFetches && next.is_valid(); ++stage) fetch(stage);
  int stage = 0;
  bool is_odd = false;
  for (BulkPieces piece(args, piece_bytes); piece.is_valid(); piece.step()) {
    thread_await_fetch(&fetched[stage], is_odd);
    thread_put(piece.to(), stages + stage * piece_bytes, piece.bytes());
    if (next.is_valid()) {
      thread_await_reads_of_puts<kPuts>();
      fetch((stage + kFetches) % kStages);
    }
    if (++stage < kStages) continue;
    stage = 0;
    is_odd = !is_odd;
  }
  thread_await_puts();
}
#endif

/// What copy_kernel<uint4> does, by bulk copies where there are such.
__global__ void __launch_bounds__(kWarpThreads, 1)
    bulk_copy_kernel(const __grid_constant__ CopyArgs args, int piece_bytes) {
#ifdef CROSSDOCK_HAS_BULK_COPIES
  extern __shared__ uint4 stages[];
  __shared__ std::uint64_t fetched[kStages];
  if (threadIdx.x == 0) thread_copy_in_bulk(args, piece_bytes, reinterpret_cast<std::byte*>(stages), fetched);
  block_complete(args.completion);
#endif
}

/// Bytes of the longest piece on the current device, 0: the kernel was compiled for devices without bulk copies.
int most_piece_bytes() {
  constexpr int kReserved = 1024;  // shared memory of a block that it does not ask for
  cudaFuncAttributes attributes;
  int device = 0;
  int shared = 0;
  if (cudaFuncGetAttributes(&attributes, bulk_copy_kernel) != cudaSuccess || attributes.ptxVersion < 90 ||
      cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) {
    return 0;
  }
  const int most = std::min((shared - kReserved) / kStages / kPieceUnit * kPieceUnit, kMostPiece);
  return most < kLeastPiece ? 0 : most;
}

}  // namespace

cudaError_t load_copy() {
  const cudaError_t error =
      cudaFuncSetAttribute(bulk_copy_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kStages * most_piece_bytes());
  if (error != cudaSuccess) return error;
  return load_each_access([](auto access) { return load_kernels(copy_kernel<decltype(access)>); });
}

cudaError_t launch_copy(const CopyArgs& args, int num_sms, int num_sharers, cudaStream_t stream) {
  const int bytes = access_bytes({reinterpret_cast<std::uint64_t>(args.from), reinterpret_cast<std::uint64_t>(args.to),
                                  static_cast<std::uint64_t>(args.stride), static_cast<std::uint64_t>(args.row_bytes)});
  const auto blocks = static_cast<unsigned>(num_sms);
  const int most_piece = bytes == 16 ? most_piece_bytes() : 0;
  if (most_piece > 0) {
    const int wanted = kDeviceBytes / (num_sms * num_sharers) / kFetches / kPieceUnit * kPieceUnit;
    const int piece_bytes = std::clamp(wanted, kLeastPiece, most_piece);
    const auto shared = static_cast<std::size_t>(kStages * piece_bytes);
    bulk_copy_kernel<<<blocks, kWarpThreads, shared, stream>>>(args, piece_bytes);
    return cudaGetLastError();
  }
  with_access(bytes, [&](auto access) { copy_kernel<decltype(access)><<<blocks, kThreads, 0, stream>>>(args); });
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
