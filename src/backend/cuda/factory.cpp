#include "backend/cuda/factory.hpp"

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/cuda_device.hpp"
#include "backend/cuda/device/copy.hpp"
#include "backend/cuda/device/low_latency_combine.hpp"
#include "backend/cuda/device/low_latency_dispatch.hpp"
#include "backend/cuda/device/notices.hpp"
#include "backend/cuda/device/readmission.hpp"
#include "backend/cuda/device/reduce.hpp"
#include "backend/cuda/device/selections.hpp"
#include "backend/cuda/device/send.hpp"
#include "backend/cuda/device/worst_case.hpp"
#include "backend/cuda/node.hpp"
#include "backend/cuda/ordered_send.hpp"
#include "backend/cuda/stream_event.hpp"
#include "backend/host/window_exchange.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

constexpr std::size_t kPageBytes = 4096;
/// Ranks of one device whose kernels may wait for each other: as threads of a process each needs connections of its own
/// to the device, of which there are 32.
constexpr int kMostSharers = 8;

/// The host's window holds records and signals only.
BufferOptions control_options(BufferOptions options) {
  if (options.arena_bytes > 0) options.arena_bytes = kPageBytes;
  options.huge_pages = HugePages::kNever;
  return options;
}

/// May a kernel of this rank wait, and others' run beside it? Threads of a process share its queues to the device, and
/// processes that share a device take turns without MPS.
bool has_room_to_wait(const DeviceGroup& devices, int device) {
  int has_mps = 0;
  check(cudaDeviceGetAttribute(&has_mps, cudaDevAttrMpsEnabled, device), "cudaDeviceGetAttribute");
  return devices.num_here == 1 && (devices.num_sharers == 1 || has_mps != 0);
}

}  // namespace

Event capture_stream(const Stream& stream) { return capture_stream(stream.device.index, stream.native); }

Parts make_parts(Bootstrap& bootstrap, const BufferOptions& options) {
  const int num_ranks = bootstrap.size();
  if (num_ranks > device::kMaxRanks) {
    throw make_error(ErrorCode::kUnsupported, "{} ranks on CUDA devices of one host; at most {} are allowed", num_ranks,
                     device::kMaxRanks);
  }
  const Deadline deadline(options.setup_timeout);
  const std::size_t arena_bytes = (options.arena_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  auto node = std::make_shared<Node>();
  node->rank_threads.emplace();  // before kernels of other ranks can run
  node->stream = std::make_shared<CommunicationStream>(options.device.index, OrderedSend::order_words(num_ranks));
  auto local_device = std::make_unique<CudaDevice>(node->stream, num_ranks, options);
  node->group =
      std::make_shared<host::Group>(host::exchange_windows(bootstrap, control_options(options), deadline), kPageBytes);
  {
    const DeviceGuard guard(options.device.index);
    check(device::load_low_latency_dispatch(), "loading kernels");
    check(device::load_low_latency_combine(), "loading kernels");
    check(device::load_notices(), "loading kernels");
    check(device::load_layout(), "loading kernels");
    check(device::load_send(), "loading kernels");
    check(device::load_selections(), "loading kernels");
    check(device::load_copy(), "loading kernels");
    check(device::load_reduce(), "loading kernels");
    check(device::load_worst_case(), "loading kernels");
    check(device::load_readmission(), "loading kernels");
  }
  const device::ControlLayout layout(num_ranks, options.max_experts);
  node->control_bytes = layout.bytes();
  DeviceGroup devices =
      exchange_device_windows(bootstrap, options.device.index, {node->control_bytes, arena_bytes}, deadline);
  if (devices.num_here == 1) node->rank_threads.reset();
  node->windows = std::move(devices.windows);
  const auto& own = node->windows[static_cast<std::size_t>(bootstrap.rank())];
  node->count_scratch = CountScratch(own->data(), static_cast<std::size_t>(num_ranks),
                                     static_cast<std::size_t>(options.max_experts), layout);
  node->group->arena =
      std::make_shared<host::Arena>(own, own->data() + node->control_bytes, arena_bytes, node->stream->device());
  node->queue =
      std::make_unique<KernelQueue>(node->group, node->windows, node->stream, options.max_experts, devices.num_sharers);
  node->num_sharers = devices.num_sharers;
  node->has_room_to_wait = has_room_to_wait(devices, options.device.index);
  node->counts_on_device = devices.most_sharers <= kMostSharers;
  return {std::move(local_device), std::make_unique<CudaBackend>(std::move(node))};
}

}  // namespace crossdock::cuda
