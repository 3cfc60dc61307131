// Dispatch and combine: the class that an engine holds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <crossdock/bootstrap.hpp>
#include <crossdock/config.hpp>
#include <crossdock/error.hpp>
#include <crossdock/event.hpp>
#include <crossdock/export.hpp>
#include <crossdock/handle.hpp>
#include <crossdock/layout.hpp>
#include <crossdock/low_latency.hpp>
#include <crossdock/tensor.hpp>
#include <crossdock/topology.hpp>
#include <crossdock/types.hpp>

namespace crossdock {

enum class HugePages : std::uint8_t {
  kAuto,   ///< reserved huge pages if the kernel has them, else transparent ones if allowed, else normal pages
  kNever,  ///< normal pages
};

/// How a buffer is made. `max_experts`, `ranks_per_node` and `mask_lost_ranks` must be equal on all ranks.
struct BufferOptions {
  /// Bytes of this rank's arena, where received rows live; get_arena_size_hint says how many an operation needs.
  /// Rounded up to whole pages; the pages are populated at construction. Zero is refused. May differ between ranks.
  std::size_t arena_bytes = 0;
  /// The most experts that an operation may have.
  int max_experts = 2048;
  /// Ranks that share memory; 0 means all of them.
  int ranks_per_node = 0;
  /// Deadline of each half of an operation that does not set its own: of a dispatch's exchange of counts and places, of
  /// its moving of rows, and of a whole combine.
  Milliseconds timeout{100'000};
  /// Deadline for making the buffer.
  Milliseconds setup_timeout{100'000};
  /// A rank that dies, leaves or misses a deadline is masked (see Buffer::mask_rank) instead of breaking the buffer.
  bool mask_lost_ranks = false;
  HugePages huge_pages = HugePages::kAuto;
  Device device{};
};

enum class OperationMode : std::uint8_t {
  kThroughput,  ///< dispatch and combine
  kLowLatency,  ///< low_latency_dispatch and low_latency_combine
  kWorstCase,   ///< dispatch with num_worst_tokens, and what uses its handle
};

enum class Completion : std::uint8_t {
  kSynchronous,   ///< the call returns when the results may be used
  kAsynchronous,  ///< the call returns early; the results may be used once the returned event has completed. A dispatch
                  ///< without num_worst_tokens returns when the counts are known, so when every rank has called it
  kHook,          ///< low-latency operations only: the call sends, the returned hook receives
  kStream,        ///< the call returns when the operation is queued on the caller's stream, in whose order its results
                  ///< may be used; what it ends with a later call throws, which then is no operation. On the host as
  ///< kSynchronous, and so are throughput operations without num_worst_tokens (dispatch) or such a dispatch's
  ///< handle. What else is asked for on a stream that is being captured into a graph is this
};

enum class Allocation : std::uint8_t {
  kCallerStream,         ///< results are ordered with the caller's stream
  kCommunicationStream,  ///< results belong to the communication stream; needs previous_event and kAsynchronous
};

/// How one operation runs. Fields may differ between ranks.
struct OperationOptions {
  Completion completion = Completion::kSynchronous;
  Allocation allocation = Allocation::kCallerStream;
  std::optional<Event> previous_event{};  ///< the operation starts after this
  std::optional<Milliseconds> timeout{};  ///< BufferOptions::timeout if not set
  Stream stream{};
  /// int64 [R], contiguous: the nanoseconds that this rank waits for each rank are added. Ranks are looked at in turn,
  /// so a wait that overlaps an earlier one is not counted again.
  std::optional<Tensor> wait_recv_cost_stats{};
};

/// Input of a dispatch on a rank with N tokens, H hidden, K top-k, S scales; R ranks, E experts.
/// N, expert_alignment, the value of num_worst_tokens and config are each rank's own, N may be 0; dtypes, H, K, S, E,
/// expand (then expert_alignment too) and what is present must be equal on all ranks.
struct DispatchInput {
  Tensor x{};                        ///< [N, H], any dtype, rows contiguous (stride 1 in the last dimension)
  std::optional<Tensor> x_scales{};  ///< [N, S], any dtype, any strides
  std::optional<Tensor> topk_idx{};  ///< int64 or int32 [N, K], ids in [0, E) or -1; empty optional: dispatched without
                                     ///< top-k (an empty tensor is not that), then `layout` is required
  std::optional<Tensor> topk_weights{};    ///< float32 [N, K]; present exactly if topk_idx is
  std::optional<DispatchLayout> layout{};  ///< as get_dispatch_layout gives it; computed from topk_idx if absent
  int num_experts = 0;                     ///< E; 0 takes it from `layout`
  int expert_alignment = 1;                ///< returned per-expert counts are rounded up to a multiple of this, >= 1
  /// A row for each selection instead of each token and rank, grouped by local expert (see DispatchOutput). Requires
  /// top-k.
  bool expand = false;
  /// Rows of the received tensors, whatever is received (as many or fewer): nothing of the result then depends on the
  /// counts. Requires top-k. Rows that are not received have top-k ids -1 and weights 0, and are else undefined.
  std::optional<std::int64_t> num_worst_tokens{};
  /// int32 [L], contiguous: the selections that each local expert receives are added, not rounded up.
  std::optional<Tensor> cumulative_local_expert_recv_stats{};
  std::optional<Config> config{};
};

/// A dispatch that repeats the routing of an earlier one on other rows: no counting, no top-k.
struct CachedDispatchInput {
  Tensor x{};                        ///< [N, H'], N as in the handle's dispatch
  std::optional<Tensor> x_scales{};  ///< [N, S']
  DispatchHandle handle{};
  std::optional<Config> config{};
};

/// M rows received, ordered by (source rank, source token); a token appears once on each rank that owns one of its
/// experts. The tensors are slabs of the arena.
/// Expanded: a token appears once for each of its columns that selects one of this rank's L experts. Rows are grouped
/// by expert, ascending; a group starts at a multiple of expert_alignment, and is ordered by (source rank, source
/// token, column). M counts the padding behind each group, too, whose rows, scales and weights are zero.
struct DispatchOutput {
  Tensor recv_x{};                        ///< [M, H], dtype of x
  std::optional<Tensor> recv_x_scales{};  ///< [M, S], dtype of x_scales, row-major
  std::optional<Tensor> recv_topk_idx{};  ///< dtype of topk_idx [M, K]: expert number within this rank, -1 elsewhere;
                                          ///< absent if expanded
  std::optional<Tensor> recv_topk_weights{};  ///< float32 [M, K]: 0 where the id is -1; expanded: [M]
  /// Selections of each local expert, rounded up to expert_alignment. Empty for cached and worst-case dispatches.
  std::vector<std::int32_t> num_recv_tokens_per_expert{};
  /// Expanded: int32 [L], where each expert's group starts plus its selections: behind its last row. Absent for cached
  /// dispatches.
  std::optional<Tensor> psum_num_recv_tokens_per_expert{};
  DispatchHandle handle{};
  Event event{};  ///< complete already if the call was synchronous
};

struct CombineInput {
  Tensor x{};  ///< bfloat16 or float32 [M, H], one row per received row; rows contiguous. Read in
               ///< place if it lies in the arena (see combine_input), else staged with one copy
  DispatchHandle handle{};
  std::optional<Tensor> topk_weights{};  ///< float32 [M, K], summed like x; expanded: [M], one for each row
  std::optional<Tensor> bias_0{};        ///< dtype of x [N, H]
  std::optional<Tensor> bias_1{};        ///< dtype of x [N, H]; requires bias_0
  std::optional<Tensor> out{};           ///< dtype of x [N, H], contiguous; allocated if absent
  std::optional<Config> config{};
};

/// combined_x[t] = round(bias_0[t] + bias_1[t] + sum over the ranks that got t, ascending, of their row for t),
/// computed in float32 and rounded once to nearest even. A token that went nowhere gets the biases, or 0. Expanded: its
/// rows by ascending (rank, column).
struct CombineOutput {
  Tensor combined_x{};                            ///< [N, H], dtype of x
  std::optional<Tensor> combined_topk_weights{};  ///< float32 [N, K]: sum over the same ranks; expanded: the weight of
                                                  ///< each column's own row, 0 if it has none
  Event event{};
};

/// One rank's end of a group that dispatches and combines.
///
/// Collective: the constructor and every operation are called by all ranks in the same order (get_dispatch_layout,
/// combine_input, capture and destroy are local). Any number of buffers and groups may exist in one process.
/// Threads: one thread at a time may call a buffer; results and events may go to any thread.
/// Errors: if one rank's arguments are wrong, or ranks disagree, every rank's call throws the same Error (a rank whose
/// own arguments are wrong throws its own), nothing has moved, and the buffer remains usable. A timeout or a lost peer
/// breaks the buffer: every later operation throws kState, and destroy() still works.
class CROSSDOCK_EXPORT Buffer {
 public:
  /// Throws kInvalidArgument (kMismatch where ranks disagree) for bad options, kBootstrap or kTimeout if peers do not
  /// come, kSystem if the window cannot be had, kUnsupported for a device that this build cannot serve.
  Buffer(const std::shared_ptr<Bootstrap>& bootstrap, const BufferOptions& options);
  /// Calls destroy(). Never a collective, never throws.
  ~Buffer();
  Buffer(Buffer&&) noexcept;
  Buffer& operator=(Buffer&&) noexcept;

  [[nodiscard]] int rank() const noexcept;
  [[nodiscard]] int num_ranks() const noexcept;
  [[nodiscard]] const Topology& topology() const noexcept;
  [[nodiscard]] bool is_available() const noexcept;  ///< not destroyed and not broken
  /// Bytes of this rank's arena that no tensor holds (they need not be contiguous).
  [[nodiscard]] std::size_t arena_bytes_free() const;
  [[nodiscard]] std::size_t arena_bytes_total() const noexcept;
  /// The whole arena, uint8 [arena_bytes_total()], for looking at: what is written there ends up in received tensors.
  /// It stays valid after destroy().
  [[nodiscard]] Tensor arena() const;
  /// First global id and number of the experts of a rank: contiguous blocks, the first E % R ranks have one more.
  struct ExpertRange {
    int begin = 0;
    int count = 0;
  };
  [[nodiscard]] ExpertRange local_experts(int num_experts) const;

  [[nodiscard]] DispatchLayout get_dispatch_layout(const Tensor& topk_idx, int num_experts,
                                                   const OperationOptions& options = {});
  [[nodiscard]] DispatchOutput dispatch(const DispatchInput& input, const OperationOptions& options = {});
  [[nodiscard]] DispatchOutput dispatch(const CachedDispatchInput& input, const OperationOptions& options = {});
  [[nodiscard]] CombineOutput combine(const CombineInput& input, const OperationOptions& options = {});

  /// A tensor [handle.num_recv_rows(), hidden] in the arena, contents undefined: what experts write into it, combine
  /// reads in place. Throws kCapacity with the bytes that would do if the arena has no room.
  [[nodiscard]] Tensor combine_input(const DispatchHandle& handle, std::int64_t hidden,
                                     DataType dtype = DataType::kBfloat16);

  /// The pair for decoding. Meaning, shapes and order: see the structs in low_latency.hpp. Any mixture with the
  /// operations above may be in flight on one buffer.
  [[nodiscard]] LowLatencyDispatchOutput low_latency_dispatch(const LowLatencyDispatchInput& input,
                                                              const OperationOptions& options = {});
  [[nodiscard]] LowLatencyCombineOutput low_latency_combine(const LowLatencyCombineInput& input,
                                                            const OperationOptions& options = {});
  /// A tensor bfloat16 [L, R * M, H] in the arena, contents undefined, for LowLatencyCombineInput::zero_copy: experts
  /// write into it and one combine of this handle reads it in place. Throws kCapacity as combine_input.
  [[nodiscard]] Tensor next_combine_buffer(const LowLatencyHandle& handle);
  /// For callers of DeepEP, where signals must be zeroed between modes and shapes. Here they only count up: nothing is
  /// done, on any rank. Throws kInvalidArgument for negative arguments.
  void clean_low_latency_buffer(std::int64_t num_max_dispatch_tokens_per_rank, std::int64_t hidden,
                                int num_experts) const;

  /// Goes on without a rank, from this rank's next operation on, or lets it in again (`masked` false). A masked rank
  /// counts as one without tokens, and a selection of one of its experts as -1; shapes do not change, and a combine
  /// leaves out what the rank would contribute. Local; but all ranks that go on must mask the same ranks, else their
  /// next operation throws kMismatch on each of them, and nothing else happens. The masked rank's own operations throw
  /// kState until all have let it in; its next operation is then that which the others call next. Throws
  /// kInvalidArgument for this rank itself and for ranks that do not exist. See docs/semantics.md.
  void mask_rank(int rank, bool masked = true);
  /// Ranks that this one masks, those that were lost included (BufferOptions::mask_lost_ranks); ascending.
  [[nodiscard]] std::vector<int> masked_ranks() const;
  /// Lets all masked ranks in again, from this rank's next operation on.
  void clear_masks();

  /// Takes the place of this rank's next operation, for an adapter that cannot make its arguments: the other ranks'
  /// calls throw `reason`, nothing has moved, and the buffer goes on, as if the operation itself had been refused. The
  /// caller then throws its reason. `mode` is that of the operation: on a device the other ranks wait in another place
  /// for each. Throws kState where the operation would.
  void refuse(const Error& reason, OperationMode mode = OperationMode::kThroughput);

  /// The point reached by the caller's stream. On the host that is now: a complete event.
  [[nodiscard]] Event capture(Stream stream = {});
  /// The stream that the operations' kernels run on; the default one on the host. Operations are queued on it while
  /// they run, not when they are called: what must come after one waits for its event.
  [[nodiscard]] Stream communication_stream() const;

  /// Phases of the last finished throughput operation of this rank, in microseconds, for tools and tests. A combine's
  /// place is its staging; a dispatch's layout includes checking its arguments and waiting for previous_event.
  struct PhaseTimes {
    double layout_us = 0;    ///< counting and row offsets
    double announce_us = 0;  ///< exchanging counts, until all ranks had announced
    double place_us = 0;     ///< slabs, until all ranks had placed
    double copy_us = 0;      ///< moving or reducing rows
    double wait_us = 0;      ///< waiting for the peers to finish
    double copy_cpu_us = 0;  ///< what copy_us cost of a core, other threads' turns left out; 0 for small batches
  };
  [[nodiscard]] PhaseTimes last_phase_times() const;

  /// Leaves the group, after the asynchronous operations that are queued have ended. Idempotent, local, bounded by
  /// their deadlines; never throws. Peers that wait for this rank then get kPeerLost. Tensors from the arena stay
  /// valid.
  void destroy() noexcept;

 private:
  class CROSSDOCK_HIDDEN Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace crossdock
