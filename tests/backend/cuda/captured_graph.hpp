// What a rank queues, as a CUDA graph.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "backend/cuda/cuda_place.hpp"

namespace crossdock::testing {

class CapturedGraph {
 public:
  /// `body` queues it on the place's stream. `meet` returns when all ranks have called it: each has its graph on the
  /// device then. Bringing it there may wait for kernels that run, and those of other ranks may wait for this one.
  CapturedGraph(const CudaStreamPlace& place, const std::function<void()>& body, const std::function<void()>& meet);
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;
  ~CapturedGraph();

  /// On the same stream, which must still be there.
  void launch() const;

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace crossdock::testing
