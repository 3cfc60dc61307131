#include "backend/cuda/stream_event.hpp"

#include <cuda_runtime_api.h>

#include <memory>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device_guard.hpp"
#include "backend/event_state.hpp"

namespace crossdock::cuda {

namespace {

class StreamEvent final : public Event::State {
 public:
  explicit StreamEvent(cudaStream_t stream) {
    error_ = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
    if (error_ == cudaSuccess) error_ = cudaEventRecord(event_, stream);
  }
  ~StreamEvent() override {
    if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));
  }

  [[nodiscard]] bool is_complete() noexcept override {
    return error_ != cudaSuccess || cudaEventQuery(event_) != cudaErrorNotReady;
  }
  void wait() override { check(error_ != cudaSuccess ? error_ : cudaEventSynchronize(event_), "the caller's stream"); }

 private:
  cudaEvent_t event_ = nullptr;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace

Event capture_stream(int device, void* stream) {
  const DeviceGuard guard(device);
  auto* const native = static_cast<cudaStream_t>(stream);
  if (cudaStreamQuery(native) == cudaSuccess) return Event();
  return Event(std::make_shared<StreamEvent>(native));
}

}  // namespace crossdock::cuda
