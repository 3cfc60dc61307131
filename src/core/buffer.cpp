#include <crossdock/buffer.hpp>

#include "base/error.hpp"
#include "core/buffer_impl.hpp"

namespace crossdock {

namespace {

Bootstrap& checked(const std::shared_ptr<Bootstrap>& bootstrap) {
  require(bootstrap != nullptr, "a buffer needs a bootstrap, not a null pointer");
  return *bootstrap;
}

}  // namespace

Buffer::Buffer(const std::shared_ptr<Bootstrap>& bootstrap, const BufferOptions& options)
    : impl_(std::make_unique<Impl>(checked(bootstrap), options)) {}
Buffer::~Buffer() = default;
Buffer::Buffer(Buffer&&) noexcept = default;
Buffer& Buffer::operator=(Buffer&&) noexcept = default;

int Buffer::rank() const noexcept { return impl_->rank(); }
int Buffer::num_ranks() const noexcept { return impl_->topology().num_ranks; }
const Topology& Buffer::topology() const noexcept { return impl_->topology(); }
bool Buffer::is_available() const noexcept { return impl_->is_available(); }
std::size_t Buffer::arena_bytes_free() const { return impl_->backend().arena_bytes_free(); }
std::size_t Buffer::arena_bytes_total() const noexcept { return impl_->arena_bytes_total(); }
Tensor Buffer::arena() const { return impl_->backend().arena(); }
Buffer::ExpertRange Buffer::local_experts(int num_experts) const { return impl_->local_experts(num_experts); }

DispatchLayout Buffer::get_dispatch_layout(const Tensor& topk_idx, int num_experts, const OperationOptions& options) {
  return impl_->get_dispatch_layout(topk_idx, num_experts, options);
}
DispatchOutput Buffer::dispatch(const DispatchInput& input, const OperationOptions& options) {
  return impl_->dispatch(input, options);
}
DispatchOutput Buffer::dispatch(const CachedDispatchInput& input, const OperationOptions& options) {
  return impl_->dispatch(input, options);
}
CombineOutput Buffer::combine(const CombineInput& input, const OperationOptions& options) {
  return impl_->combine(input, options);
}
Tensor Buffer::combine_input(const DispatchHandle& handle, std::int64_t hidden, DataType dtype) {
  return impl_->combine_input(handle, hidden, dtype);
}

LowLatencyDispatchOutput Buffer::low_latency_dispatch(const LowLatencyDispatchInput& input,
                                                      const OperationOptions& options) {
  return impl_->low_latency_dispatch(input, options);
}
LowLatencyCombineOutput Buffer::low_latency_combine(const LowLatencyCombineInput& input,
                                                    const OperationOptions& options) {
  return impl_->low_latency_combine(input, options);
}
void Buffer::clean_low_latency_buffer(std::int64_t num_max_dispatch_tokens_per_rank, std::int64_t hidden,
                                      int num_experts) const {
  require(num_max_dispatch_tokens_per_rank >= 0 && hidden >= 0 && num_experts >= 0,
          "clean_low_latency_buffer for {} tokens, hidden {}, {} experts: none may be negative",
          num_max_dispatch_tokens_per_rank, hidden, num_experts);
}

Tensor Buffer::next_combine_buffer(const LowLatencyHandle& handle) { return impl_->next_combine_buffer(handle); }

void Buffer::refuse(const Error& reason, OperationMode mode) { impl_->refuse(reason, mode); }
Event Buffer::capture(Stream stream) { return impl_->capture(stream); }
Stream Buffer::communication_stream() const { return impl_->communication_stream(); }
void Buffer::mask_rank(int rank, bool masked) { impl_->mask_rank(rank, masked); }
std::vector<int> Buffer::masked_ranks() const { return impl_->masked_ranks(); }
void Buffer::clear_masks() { impl_->clear_masks(); }
Buffer::PhaseTimes Buffer::last_phase_times() const { return impl_->last_phase_times(); }
void Buffer::destroy() noexcept { impl_->destroy(); }

}  // namespace crossdock
