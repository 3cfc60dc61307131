// The tensors of next_combine_buffer that no combine has had yet.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <crossdock/tensor.hpp>

namespace crossdock {

/// Not thread-safe: used by the thread that calls the buffer.
class CombineBuffers {
 public:
  /// `epoch` is that of the dispatch for whose combine the tensor is.
  void add(const Tensor& tensor, std::uint64_t epoch);
  /// The tensor is handed over to a combine. Throws kInvalidArgument, and keeps it, unless it was added for that epoch.
  void take(const Tensor& tensor, std::uint64_t epoch);

 private:
  struct Given {
    const void* data = nullptr;
    std::weak_ptr<void> owner;
    std::uint64_t epoch = 0;
  };
  std::vector<Given> given_;
};

}  // namespace crossdock
