#include "backend/cuda/timed_graph.hpp"

#include <cuda_runtime_api.h>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device_guard.hpp"

namespace crossdock::cuda {

struct TimedGraph::Parts {
  Device device;
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  std::vector<cudaEvent_t> marks;
};

TimedGraph::TimedGraph(Device device) : parts_(std::make_unique<Parts>()) {
  parts_->device = device;
  const DeviceGuard guard(device.index);
  check(cudaStreamCreateWithFlags(&parts_->stream, cudaStreamNonBlocking), "cudaStreamCreate");
}

TimedGraph::~TimedGraph() {
  for (const cudaEvent_t mark : parts_->marks) static_cast<void>(cudaEventDestroy(mark));
  if (parts_->executable != nullptr) static_cast<void>(cudaGraphExecDestroy(parts_->executable));
  if (parts_->graph != nullptr) static_cast<void>(cudaGraphDestroy(parts_->graph));
  if (parts_->stream != nullptr) static_cast<void>(cudaStreamDestroy(parts_->stream));
}

Stream TimedGraph::stream() const noexcept { return {parts_->device, parts_->stream}; }

void TimedGraph::capture(const std::function<void()>& body) {
  const DeviceGuard guard(parts_->device.index);
  check(cudaStreamBeginCapture(parts_->stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  body();
  check(cudaStreamEndCapture(parts_->stream, &parts_->graph), "cudaStreamEndCapture");
  check(cudaGraphInstantiate(&parts_->executable, parts_->graph, 0), "cudaGraphInstantiate");
  // Now, as it may wait for kernels that run.
  check(cudaGraphUpload(parts_->executable, parts_->stream), "cudaGraphUpload");
  check(cudaStreamSynchronize(parts_->stream), "cudaGraphUpload");
}

void TimedGraph::mark() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  parts_->marks.push_back(event);
  check(cudaEventRecordWithFlags(event, parts_->stream, cudaEventRecordExternal), "cudaEventRecord");
}

std::vector<double> TimedGraph::launch() {
  const DeviceGuard guard(parts_->device.index);
  check(cudaGraphLaunch(parts_->executable, parts_->stream), "cudaGraphLaunch");
  check(cudaStreamSynchronize(parts_->stream), "a graph");
  std::vector<double> times;
  for (std::size_t i = 1; i < parts_->marks.size(); ++i) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, parts_->marks[i - 1], parts_->marks[i]), "cudaEventElapsedTime");
    times.push_back(1e3 * static_cast<double>(milliseconds));
  }
  return times;
}

}  // namespace crossdock::cuda
