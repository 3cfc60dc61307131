// A rank that takes part in dispatches with a worst case up to a chosen moment. It speaks the protocol of the devices
// by hand, so that it can stop where a real rank would go on.
#pragma once

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "backend/cuda/arrays.hpp"
#include "backend/cuda/device_windows.hpp"
#include "backend/cuda/puppet_kernel.hpp"
#include "backend/host/host_backend.hpp"
#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// What a puppet and the others agree on. The puppet has no tokens, but may have experts.
struct PuppetDispatch {
  DataType dtype = DataType::kBfloat16;
  std::int64_t hidden = 256;
  std::int64_t num_topk = 2;  ///< of int64
  int num_experts = 8;
  std::int64_t num_worst_tokens = 4096;
};

class Puppet {
 public:
  /// Collective, in place of a Buffer's constructor. The device is that of `place`.
  Puppet(Bootstrap& bootstrap, const BufferOptions& options, const TensorPlace& place, const PuppetDispatch& dispatch);
  Puppet(const Puppet&) = delete;
  Puppet& operator=(const Puppet&) = delete;
  ~Puppet();

  void run(PuppetStep step, int other = 0);
  /// As a process that leaves its buffer.
  void leave() { group_.signals.depart(host::Departure::kLeft, "left the buffer"); }

 private:
  host::Group group_;
  cuda::DeviceWindows windows_;
  cuda::PinnedArray<cuda::device::Mailbox> mailbox_;
  cuda::DeviceArray<std::uint64_t> others_;
  cudaStream_t stream_ = nullptr;
  PuppetArgs args_;
};

}  // namespace crossdock::testing
