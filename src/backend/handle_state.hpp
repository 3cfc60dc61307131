// What is remembered of a dispatch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <crossdock/event.hpp>
#include <crossdock/handle.hpp>
#include <crossdock/tensor.hpp>

#include "plan/expert_groups.hpp"
#include "plan/route.hpp"

namespace crossdock {

/// Written by the dispatch that makes it, constant once that dispatch's event has completed.
class DispatchHandle::State {
 public:
  explicit State(int num_ranks) : counts(num_ranks), num_tokens_of(static_cast<std::size_t>(num_ranks)) {}

  std::uint64_t buffer_id = 0;  ///< of the buffer, equal to no other buffer's of this process
  std::uint64_t epoch = 0;      ///< of the dispatch, equal on all ranks
  int rank = 0;
  DataType dtype = DataType::kUint8;  ///< of x
  std::int64_t hidden = 0;
  int num_topk = -1;  ///< -1: dispatched without top-k
  int num_experts = 0;
  int expert_alignment = 0;     ///< of the groups of an expanded dispatch; 0: not expanded
  bool has_worst_case = false;  ///< the caller has said how many rows the result has

  // Known when the dispatch starts.
  std::int64_t num_tokens = 0;
  plan::RouteTable route;  ///< on the host only; of an expanded dispatch known with the counts
  Tensor send_rows;  ///< on other devices: int32 [N, R], row of the block sent to each rank, -1 for none; expanded:
                     ///< as the backend lays it out
  std::vector<std::int32_t> num_tokens_per_rank;    ///< [R]
  std::vector<std::int32_t> num_tokens_per_expert;  ///< [E]
  Tensor is_token_in_rank;                          ///< bool [N, R]

  // Known when the counts have been exchanged (with a worst-case token count: when the event has completed).
  plan::CountMatrix counts;                  ///< rows from each rank to each rank
  std::optional<plan::ExpertGroups> groups;  ///< of an expanded dispatch
  std::vector<std::int64_t> num_tokens_of;   ///< [R] tokens of each rank
  std::int64_t num_recv_rows = 0;            ///< rows of the received tensors
  Tensor recv_src_idx;                       ///< int32 [num_recv_rows]
  Tensor group_ends;                         ///< of an expanded dispatch: int32 [L], behind each group's last row

  /// Counts that only a device knows, and only once the dispatch has ended there; see fetch_counts.
  struct Counts {
    plan::CountMatrix rows;                   ///< as `counts`
    std::vector<std::int64_t> num_tokens_of;  ///< [R]
  };
  Tensor counts_on_device;               ///< as the backend lays them out; instead of the counts above
  std::function<Counts()> fetch_counts;  ///< waits for the dispatch; empty if the host knows the counts
  std::shared_ptr<void> memory;          ///< where a captured dispatch takes memory from, for what belongs to it

  Event completion;  ///< of the dispatch

  /// A copy in host memory of a tensor of the buffer's device; empty if that is the host.
  std::function<Tensor(const Tensor&)> copy_to_host;

  [[nodiscard]] bool is_expanded() const noexcept { return expert_alignment > 0; }
  /// The row of dst's tensor from which the rows of src's route count.
  [[nodiscard]] std::int64_t first_row(int src, int dst) const {
    return is_expanded() ? 0 : counts.row_begin(src, dst);
  }
  [[nodiscard]] bool is_on_device() const noexcept { return counts_on_device.defined(); }
  /// REQUIRES: !is_on_device().
  [[nodiscard]] std::int64_t num_recv_tokens() const { return counts.num_recv(rank); }
};

}  // namespace crossdock
