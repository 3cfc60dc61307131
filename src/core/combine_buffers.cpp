#include "core/combine_buffers.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace crossdock {

void CombineBuffers::add(const Tensor& tensor, std::uint64_t epoch) {
  if (tensor.num_elements() == 0) return;
  std::erase_if(given_, [](const Given& given) { return given.owner.expired(); });
  given_.push_back({tensor.data(), tensor.owner(), epoch});
}

void CombineBuffers::take(const Tensor& tensor, std::uint64_t epoch) {
  if (tensor.num_elements() == 0) return;  // all such tensors are alike
  const auto found = std::ranges::find_if(given_, [&](const Given& given) { return given.data == tensor.data(); });
  require(found != given_.end(),
          "zero_copy: x is no tensor of next_combine_buffer, or a combine has had it; only such a tensor is allowed");
  require(found->epoch == epoch,
          "zero_copy: x is the combine buffer of the dispatch of epoch {}, but the handle is of epoch {}", found->epoch,
          epoch);
  given_.erase(found);
}

}  // namespace crossdock
