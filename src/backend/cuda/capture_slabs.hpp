// Slabs of the operations that are captured into one CUDA graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include <crossdock/tensor.hpp>

#include "backend/host/arena.hpp"

namespace crossdock::cuda {

/// A graph writes to the same addresses whenever it is launched, so its slabs stay taken as long as it exists. Within a
/// graph a slab that was given back serves later operations: results any, in the order of the stream; what others read
/// only what is of the same kind and size, the longest unused first. Thread-safe.
class CaptureSlabs : public std::enable_shared_from_this<CaptureSlabs> {
 public:
  /// The slabs of the capture that is going on on the stream, or null if there is none. `last` is what an earlier call
  /// gave.
  [[nodiscard]] static std::shared_ptr<CaptureSlabs> of(cudaStream_t stream, const std::shared_ptr<CaptureSlabs>& last);

  explicit CaptureSlabs(unsigned long long id) : id_(id) {}

  [[nodiscard]] std::optional<Tensor> try_allocate(host::Arena& arena, DataType dtype,
                                                   std::span<const std::int64_t> shape, host::SlabUse use);

  /// Keeps what is not of these slabs, and the graph uses.
  void keep(std::shared_ptr<const void> used);
  /// The graph is no more: lets go of what it kept, which may keep these slabs. Returns what keeps their memory.
  [[nodiscard]] std::shared_ptr<const void> let_go();

 private:
  void remember(host::Arena& arena);
  [[nodiscard]] std::optional<Tensor> take(std::size_t bytes, host::SlabUse use);
  void give_back(Tensor slab, host::SlabUse use);

  unsigned long long id_;
  std::mutex mutex_;
  std::shared_ptr<const void> memory_;          ///< of the arena
  std::multimap<std::size_t, Tensor> results_;  ///< by bytes
  std::map<std::size_t, std::deque<Tensor>> staged_;
  std::vector<std::shared_ptr<const void>> kept_;
};

}  // namespace crossdock::cuda
