#include "backend/cuda/cuda_backend.hpp"

#include "backend/cuda/combine.hpp"
#include "backend/cuda/dispatch.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

/// What core has refused before it comes here.
Error no_low_latency() { return make_error(ErrorCode::kUnsupported, "the CUDA backend has no low-latency mode yet"); }

}  // namespace

std::unique_ptr<backend::DispatchOperation> CudaBackend::start_dispatch(const backend::DispatchRequest& request,
                                                                        const Deadline& deadline) {
  auto operation = std::make_unique<Dispatch>(node_, request);
  node_->group->guarded([&] { operation->start(deadline); });
  return operation;
}

Buffer::PhaseTimes CudaBackend::combine(const backend::CombineRequest& request, const Deadline& deadline) {
  Buffer::PhaseTimes times;
  node_->group->guarded([&] { times = Combine(*node_, request).run(deadline); });
  return times;
}

std::shared_ptr<backend::LowLatencyDispatchOperation> CudaBackend::send_low_latency_dispatch(
    backend::LowLatencyDispatchRequest request, const Deadline& deadline) {
  throw node_->group->refuse_as("low_latency_dispatch", request.epoch, no_low_latency(), deadline);
}

std::shared_ptr<backend::ReceiveOperation> CudaBackend::send_low_latency_combine(
    backend::LowLatencyCombineRequest request, const Deadline& deadline) {
  throw node_->group->refuse_as("low_latency_combine", request.epoch, no_low_latency(), deadline);
}

}  // namespace crossdock::cuda
