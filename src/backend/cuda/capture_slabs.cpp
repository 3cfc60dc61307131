#include "backend/cuda/capture_slabs.hpp"

#include <array>
#include <system_error>
#include <thread>
#include <utility>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/rank_threads.hpp"
#include "base/logging.hpp"

namespace crossdock::cuda {

namespace {

struct Capture {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  cudaGraph_t graph = nullptr;
};

Capture capture_of(cudaStream_t stream) {
  Capture capture;
#if CUDART_VERSION >= 13000
  check(cudaStreamGetCaptureInfo(stream, &capture.status, &capture.id, &capture.graph), "cudaStreamGetCaptureInfo");
#else
  check(cudaStreamGetCaptureInfo_v2(stream, &capture.status, &capture.id, &capture.graph), "cudaStreamGetCaptureInfo");
#endif
  return capture;
}

using Kept = std::shared_ptr<CaptureSlabs>;

/// Slabs become free at once; their memory, if the buffer is gone, when no one is kept from anything by that.
void delete_kept(Kept* kept) {
  std::shared_ptr<const void> memory = (*kept)->let_go();
  delete kept;
  if (memory.use_count() == 1) RankThreads::run_without_any([&] { memory.reset(); });
}

/// For a user object of CUDA, whose destructor must not call CUDA: giving memory back does, so another thread does it.
void give_up(void* data) noexcept {
  auto* const kept = static_cast<Kept*>(data);
  try {
    std::thread(delete_kept, kept).detach();
  } catch (const std::system_error& error) {
    logger().warn("the memory of a CUDA graph is not given back: {}", error.what());
  }
}

}  // namespace

std::shared_ptr<CaptureSlabs> CaptureSlabs::of(cudaStream_t stream, const std::shared_ptr<CaptureSlabs>& last) {
  const Capture capture = capture_of(stream);
  if (capture.status != cudaStreamCaptureStatusActive) return nullptr;
  if (last && last->id_ == capture.id) return last;
  auto slabs = std::make_shared<CaptureSlabs>(capture.id);
  // The graph, and what is instantiated from it, keeps them.
  auto* const kept = new Kept(slabs);
  cudaUserObject_t object = nullptr;
  const cudaError_t error = cudaUserObjectCreate(&object, kept, give_up, 1, cudaUserObjectNoDestructorSync);
  if (error != cudaSuccess) delete kept;
  check(error, "cudaUserObjectCreate");
  check(cudaGraphRetainUserObject(capture.graph, object, 1, cudaGraphUserObjectMove), "cudaGraphRetainUserObject");
  return slabs;
}

std::optional<Tensor> CaptureSlabs::try_allocate(host::Arena& arena, DataType dtype,
                                                 std::span<const std::int64_t> shape, host::SlabUse use) {
  const std::size_t bytes = host::Arena::slab_bytes(dtype, shape);
  remember(arena);
  std::optional<Tensor> slab = take(bytes, use);
  if (!slab) slab = arena.try_allocate(DataType::kUint8, std::array{static_cast<std::int64_t>(bytes)}, use);
  if (!slab) return std::nullopt;
  void* const data = slab->data();
  const Device device = slab->device();
  std::shared_ptr<void> owner(
      data, [self = shared_from_this(), slab = *std::move(slab), use](void*) noexcept { self->give_back(slab, use); });
  return Tensor::own(std::move(owner), data, dtype, shape, device);
}

std::shared_ptr<const void> CaptureSlabs::let_go() {
  std::vector<std::shared_ptr<const void>> kept;  // given up without the lock
  const std::lock_guard lock(mutex_);
  kept.swap(kept_);
  return memory_;
}

void CaptureSlabs::remember(host::Arena& arena) {
  const std::lock_guard lock(mutex_);
  if (!memory_) memory_ = arena.whole().owner();
}

void CaptureSlabs::keep(std::shared_ptr<const void> used) {
  const std::lock_guard lock(mutex_);
  kept_.push_back(std::move(used));
}

std::optional<Tensor> CaptureSlabs::take(std::size_t bytes, host::SlabUse use) {
  const std::lock_guard lock(mutex_);
  if (use == host::SlabUse::kStaged) {
    std::deque<Tensor>& same = staged_[bytes];
    if (same.empty()) return std::nullopt;
    Tensor slab = std::move(same.front());
    same.pop_front();
    return slab;
  }
  const auto found = results_.lower_bound(bytes);
  if (found == results_.end()) return std::nullopt;
  Tensor slab = std::move(found->second);
  results_.erase(found);
  return slab;
}

void CaptureSlabs::give_back(Tensor slab, host::SlabUse use) {
  const std::lock_guard lock(mutex_);
  const std::size_t bytes = slab.num_bytes();
  if (use == host::SlabUse::kStaged) {
    staged_[bytes].push_back(std::move(slab));
  } else {
    results_.emplace(bytes, std::move(slab));
  }
}

}  // namespace crossdock::cuda
