// The emulated devices, and what they are asked.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "emulator/devices.hpp"

namespace crossdock::emulator {

namespace {

thread_local const char* callback = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
thread_local int current_device = 0;          // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

int count_devices() {
  static const int count = [] {
    const char* const text = std::getenv("CROSSDOCK_EMULATED_DEVICES");
    return text == nullptr ? 1 : std::atoi(text);
  }();
  return count;
}

}  // namespace

Callback::Callback(const char* what) { callback = what; }
Callback::~Callback() { callback = nullptr; }

void require_no_callback(const char* call) {
  if (callback == nullptr) return;
  std::fprintf(stderr, "%s in %s: CUDA must not be called there\n", call, callback);
  std::terminate();
}

}  // namespace crossdock::emulator

using namespace crossdock::emulator;  // NOLINT(google-build-using-namespace)

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  require_no_callback(__func__);
  *count = count_devices();
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int device) {
  require_no_callback(__func__);
  if (device < 0 || device >= count_devices()) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  require_no_callback(__func__);
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  require_no_callback(__func__);
  *properties = {};
  std::strncpy(properties->name, "CPU (emulated)", sizeof(properties->name) - 1);
  properties->uuid.bytes[0] = static_cast<char>(device + 1);
  properties->multiProcessorCount = kMultiprocessors;
  properties->totalGlobalMem = kMemoryBytes;
  properties->major = 9;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  require_no_callback(__func__);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = kMultiprocessors; break;
    case cudaDevAttrMpsEnabled: *value = 1; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 227 << 10; break;
    default: return cudaErrorNotSupported;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned int) { return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "an error of the emulated CUDA";
  }
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

}  // extern "C"
