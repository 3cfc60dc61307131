#include "backend/cuda/worst_case_layout.hpp"

#include <array>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/requests.hpp"

namespace crossdock::cuda {

WorstCaseLayout::WorstCaseLayout(const Node& node, std::optional<std::int64_t> num_tokens)
    : masks_shape_{num_tokens.value_or(0)},
      blocks_shape_{num_tokens ? std::int64_t{device::layout_blocks(*num_tokens)} * node.group->num_ranks() : 0} {}

void WorstCaseLayout::launch(const Node& node, const Tensor& topk_idx, device::LayoutArgs args,
                             cudaStream_t stream) const {
  set_ids(args, topk_idx);
  args.scratch = node.count_scratch.scratch(masks_.data_as<std::uint64_t>(), block_counts_.data_as<std::int32_t>());
  args.counts = node.count_scratch.found();
  args.completion.blocks_ended = node.count_scratch.blocks_ended();
  check(device::launch_layout(args, stream), "the layout of a dispatch");
}

DispatchLayout compute_worst_case_layout(const Node& node, const Tensor& topk_idx, int num_experts,
                                         const Stream& caller) {
  const DeviceGuard guard(node.stream->device().index);
  const Launch launch = node.queue->begin_local(caller);
  WorstCaseLayout counter(node, topk_idx.size(0));
  DispatchLayout layout;
  const std::array ranks_shape{std::int64_t{node.group->num_ranks()}};
  const std::array experts_shape{std::int64_t{num_experts}};
  const std::array membership_shape{topk_idx.size(0), std::int64_t{node.group->num_ranks()}};
  const std::array wanted{
      host::WantedTensor{&layout.num_tokens_per_rank, DataType::kInt32, ranks_shape},
      host::WantedTensor{&layout.num_tokens_per_expert, DataType::kInt32, experts_shape},
      host::WantedTensor{&layout.is_token_in_rank, DataType::kBool, membership_shape},
      counter.wanted_masks(),
      counter.wanted_block_counts(),
  };
  node.queue->allocate(launch, wanted);
  device::LayoutArgs args = layout_args_of(topk_idx.size(0), num_experts, node.group->num_ranks());
  args.is_token_in_rank = layout.is_token_in_rank.data_as<std::uint8_t>();
  args.num_tokens_per_rank = layout.num_tokens_per_rank.data_as<std::int32_t>();
  args.num_tokens_per_expert = layout.num_tokens_per_expert.data_as<std::int32_t>();
  counter.launch(node, topk_idx, args, launch.stream);
  node.queue->note_launched(launch);
  return layout;
}

}  // namespace crossdock::cuda
