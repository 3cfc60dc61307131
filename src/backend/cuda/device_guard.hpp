// The current device of a thread.
#pragma once

#include "backend/cuda/cuda_error.hpp"

namespace crossdock::cuda {

/// Makes a device current for good. Does nothing if it is: setting it again may wait for kernels that run there.
inline void use_device(int device) {
  int current = 0;
  check(cudaGetDevice(&current), "cudaGetDevice");
  if (current != device) check(cudaSetDevice(device), "cudaSetDevice");
}

/// Makes a device current for a scope, and then the one that was.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&previous_), "cudaGetDevice");
    is_changed_ = previous_ != device;
    if (is_changed_) check(cudaSetDevice(device), "cudaSetDevice");
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard() {
    if (is_changed_) static_cast<void>(cudaSetDevice(previous_));
  }

 private:
  int previous_ = 0;
  bool is_changed_ = false;
};

}  // namespace crossdock::cuda
