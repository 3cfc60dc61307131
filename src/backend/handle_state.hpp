// What is remembered of a dispatch.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <crossdock/event.hpp>
#include <crossdock/handle.hpp>
#include <crossdock/tensor.hpp>

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

  // Known when the dispatch starts.
  std::int64_t num_tokens = 0;
  plan::RouteTable route;  ///< on the host only
  Tensor send_rows;        ///< on other devices: int32 [N, R], row of the block sent to each rank, -1 for none
  std::vector<std::int32_t> num_tokens_per_rank;    ///< [R]
  std::vector<std::int32_t> num_tokens_per_expert;  ///< [E]
  Tensor is_token_in_rank;                          ///< bool [N, R]

  // Known when the counts have been exchanged (with a worst-case token count: when the event has completed).
  plan::CountMatrix counts;                 ///< rows from each rank to each rank
  std::vector<std::int64_t> num_tokens_of;  ///< [R] tokens of each rank
  std::int64_t num_recv_rows = 0;           ///< rows of the received tensors
  Tensor recv_src_idx;                      ///< int32 [num_recv_rows]

  Event completion;  ///< of the dispatch

  /// A copy in host memory of a tensor of the buffer's device; empty if that is the host.
  std::function<Tensor(const Tensor&)> copy_to_host;

  [[nodiscard]] std::int64_t num_recv_tokens() const { return counts.num_recv(rank); }
};

}  // namespace crossdock
