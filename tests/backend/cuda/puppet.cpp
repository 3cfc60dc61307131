#include "backend/cuda/puppet.hpp"

#include <chrono>
#include <cstddef>

#include "backend/cuda/count_scratch.hpp"
#include "backend/cuda/cuda_check.hpp"
#include "backend/host/window_exchange.hpp"

namespace crossdock::testing {

namespace {

constexpr std::size_t kPageBytes = 4096;

/// As cuda::make_parts: the host's window has no arena to speak of.
BufferOptions control_options(BufferOptions options) {
  options.arena_bytes = kPageBytes;
  options.huge_pages = HugePages::kNever;
  return options;
}

}  // namespace

Puppet::Puppet(Bootstrap& bootstrap, const BufferOptions& options, const TensorPlace& place,
               const PuppetDispatch& dispatch)
    : group_(host::exchange_windows(bootstrap, control_options(options), Deadline(options.setup_timeout)), kPageBytes),
      mailbox_(cuda::make_pinned<cuda::device::Mailbox>(1)),
      others_(cuda::make_device_array<std::uint64_t>(static_cast<std::size_t>(bootstrap.size()))) {
  const int num_ranks = bootstrap.size();
  const cuda::device::ControlLayout layout(num_ranks, options.max_experts);
  windows_ = cuda::exchange_device_windows(bootstrap, place.device().index, {layout.bytes(), options.arena_bytes},
                                           Deadline(options.setup_timeout))
                 .windows;
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  args_.others = others_.get();
  std::byte* const window = windows_[static_cast<std::size_t>(bootstrap.rank())]->data();
  cuda::device::WorstCaseArgs& operation = args_.operation;
  operation.party.rank = bootstrap.rank();
  operation.party.num_ranks = num_ranks;
  operation.party.max_experts = options.max_experts;
  operation.party.masks_lost = options.mask_lost_ranks;
  operation.party.timeout_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(std::chrono::seconds(20)).count());
  operation.party.mailbox = mailbox_.get();
  for (int rank = 0; rank < num_ranks; ++rank) {
    operation.party.windows[rank] = windows_[static_cast<std::size_t>(rank)]->data();
  }
  operation.num_topk = static_cast<std::int32_t>(dispatch.num_topk);
  operation.num_experts = dispatch.num_experts;
  operation.id_bytes = static_cast<std::int32_t>(sizeof(std::int64_t));
  operation.num_scales = -1;
  operation.dtypes = static_cast<std::uint32_t>(dispatch.dtype);
  operation.hidden = dispatch.hidden;
  operation.extent = dispatch.num_worst_tokens;
  // One heap for all that it receives.
  const std::size_t part = options.arena_bytes / 4 / kPageBytes * kPageBytes;
  operation.placement = {.x = layout.bytes(),
                         .scales = 0,
                         .topk_idx = layout.bytes() + part,
                         .topk_weights = layout.bytes() + 2 * part,
                         .src_idx = layout.bytes() + 3 * part};
  operation.found = cuda::CountScratch(window, static_cast<std::size_t>(num_ranks),
                                       static_cast<std::size_t>(options.max_experts), layout)
                        .found();
  constexpr std::int64_t kRows = 64;
  args_.bytes = kRows * dispatch.hidden * static_cast<std::int64_t>(size_of(dispatch.dtype));
}

Puppet::~Puppet() {
  static_cast<void>(cudaStreamSynchronize(stream_));
  static_cast<void>(cudaStreamDestroy(stream_));
}

void Puppet::run(PuppetStep step, int other) {
  args_.other = other;
  run_puppet_step(args_, step, stream_);
}

}  // namespace crossdock::testing
