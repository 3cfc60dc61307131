#include "backend/cuda/device_probe.hpp"

#include <cuda_runtime_api.h>
#include <sys/wait.h>
#include <unistd.h>

namespace crossdock::testing {

std::string why_no_cuda_device() {
  const pid_t child = ::fork();
  if (child == 0) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    ::_exit(error == cudaSuccess && count > 0 ? 0 : 1);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return "no process could be started to look for CUDA devices";
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "there is no CUDA device, or no driver for it";
}

}  // namespace crossdock::testing
