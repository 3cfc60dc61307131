#include "backend/cuda/captured_graph.hpp"

#include "backend/cuda/cuda_check.hpp"

namespace crossdock::testing {

CapturedGraph::CapturedGraph(const CudaStreamPlace& place, const std::function<void()>& body,
                             const std::function<void()>& meet)
    : stream_(static_cast<cudaStream_t>(place.stream().native)) {
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  body();
  check(cudaStreamEndCapture(stream_, &graph_));
  check(cudaGraphInstantiate(&executable_, graph_, 0));
  check(cudaGraphUpload(executable_, stream_));
  check(cudaStreamSynchronize(stream_));
  meet();
}

CapturedGraph::~CapturedGraph() {
  static_cast<void>(cudaGraphExecDestroy(executable_));
  static_cast<void>(cudaGraphDestroy(graph_));
}

void CapturedGraph::launch() const { check(cudaGraphLaunch(executable_, stream_)); }

}  // namespace crossdock::testing
