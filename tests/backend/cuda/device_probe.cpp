#include "backend/cuda/device_probe.hpp"

#include <cuda_runtime_api.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace crossdock::testing {

namespace {

/// Are there devices? Prints them.
bool find_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return false;
  std::fprintf(stderr, "ranks are spread over %d CUDA devices:", count);
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return false;
    std::fprintf(stderr, "%s %s", device == 0 ? "" : ",", properties.name);
  }
  std::fputc('\n', stderr);
  return true;
}

std::string probe() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(find_devices() ? 0 : 1);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return "no process could be started to look for CUDA devices";
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "there is no CUDA device, or no driver for it";
}

}  // namespace

std::string why_no_cuda_device() {
  static const std::string reason = probe();
  return reason;
}

}  // namespace crossdock::testing
