#include "backend/cuda/virtual_memory.hpp"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <bit>
#include <cstdint>
#include <utility>

#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

constexpr CUmemAllocationHandleType kHandleType = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

/// The driver's functions, which the runtime finds: the library does not link to the driver.
struct Driver {
  PFN_cuGetErrorString_v6000 get_error_string = nullptr;
  PFN_cuDeviceGetAttribute_v2000 device_attribute = nullptr;
  PFN_cuMemGetAllocationGranularity_v10020 granularity = nullptr;
  PFN_cuMemCreate_v10020 create = nullptr;
  PFN_cuMemRelease_v10020 release = nullptr;
  PFN_cuMemAddressReserve_v10020 reserve = nullptr;
  PFN_cuMemAddressFree_v10020 free_address = nullptr;
  PFN_cuMemMap_v10020 map = nullptr;
  PFN_cuMemUnmap_v10020 unmap = nullptr;
  PFN_cuMemSetAccess_v10020 set_access = nullptr;
  PFN_cuMemExportToShareableHandle_v10020 export_handle = nullptr;
  PFN_cuMemImportFromShareableHandle_v10020 import_handle = nullptr;
  bool is_complete = true;

  Driver() noexcept {
    find("cuGetErrorString", get_error_string);
    find("cuDeviceGetAttribute", device_attribute);
    find("cuMemGetAllocationGranularity", granularity);
    find("cuMemCreate", create);
    find("cuMemRelease", release);
    find("cuMemAddressReserve", reserve);
    find("cuMemAddressFree", free_address);
    find("cuMemMap", map);
    find("cuMemUnmap", unmap);
    find("cuMemSetAccess", set_access);
    find("cuMemExportToShareableHandle", export_handle);
    find("cuMemImportFromShareableHandle", import_handle);
  }

 private:
  template <typename Function>
  void find(const char* name, Function& function) noexcept {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
    constexpr unsigned kVersion = 12010;
    const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result);
#else
    const cudaError_t error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
    is_complete &= error == cudaSuccess && result == cudaDriverEntryPointSuccess && found != nullptr;
    function = reinterpret_cast<Function>(found);
  }
};

const Driver& driver() {
  static const Driver instance;
  return instance;
}

void check_driver(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* text = nullptr;
  static_cast<void>(driver().get_error_string(result, &text));
  throw make_error(result == CUDA_ERROR_OUT_OF_MEMORY ? ErrorCode::kCapacity : ErrorCode::kSystem, "{}: {}", what,
                   text != nullptr ? text : "unknown error");
}

CUmemAllocationProp properties_of(int device) noexcept {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
  properties.requestedHandleTypes = kHandleType;
  return properties;
}

CUdeviceptr address_of(const VirtualMemory& memory) noexcept { return reinterpret_cast<CUdeviceptr>(memory.data); }

/// Physical memory. What is mapped of it outlives this.
class Allocation {
 public:
  explicit Allocation(CUmemGenericAllocationHandle handle) noexcept : handle_(handle) {}
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
  ~Allocation() { static_cast<void>(driver().release(handle_)); }

  [[nodiscard]] CUmemGenericAllocationHandle get() const noexcept { return handle_; }

 private:
  CUmemGenericAllocationHandle handle_;
};

CUresult set_access(const VirtualMemory& memory, int device) noexcept {
  CUmemAccessDesc access{};
  access.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return driver().set_access(address_of(memory), memory.bytes, &access, 1);
}

VirtualMemory map(const Allocation& allocation, int device, std::size_t bytes) {
  CUdeviceptr address = 0;
  check_driver(driver().reserve(&address, bytes, 0, 0, 0), "cuMemAddressReserve");
  const VirtualMemory memory{std::bit_cast<std::byte*>(address), bytes};
  if (const CUresult result = driver().map(address, bytes, 0, allocation.get(), 0); result != CUDA_SUCCESS) {
    static_cast<void>(driver().free_address(address, bytes));
    check_driver(result, "cuMemMap");
  }
  if (const CUresult result = set_access(memory, device); result != CUDA_SUCCESS) {
    release_virtual_memory(memory);
    check_driver(result, "cuMemSetAccess");
  }
  return memory;
}

}  // namespace

bool offers_virtual_memory(int device) noexcept {
  if (!driver().is_complete) return false;
  const auto has = [device](CUdevice_attribute attribute) {
    int value = 0;
    return driver().device_attribute(&value, attribute, device) == CUDA_SUCCESS && value != 0;
  };
  return has(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) &&
         has(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
}

ExportedMemory allocate_virtual_memory(int device, std::size_t bytes) {
  if (!offers_virtual_memory(device)) {
    throw make_error(ErrorCode::kUnsupported, "CUDA device {} has no memory that file descriptors stand for", device);
  }
  const CUmemAllocationProp properties = properties_of(device);
  std::size_t unit = 0;
  check_driver(driver().granularity(&unit, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
               "cuMemGetAllocationGranularity");
  const std::size_t rounded = (bytes + unit - 1) / unit * unit;
  CUmemGenericAllocationHandle handle = 0;
  check_driver(driver().create(&handle, rounded, &properties, 0), "cuMemCreate of an arena");
  const Allocation allocation(handle);
  int fd = -1;
  check_driver(driver().export_handle(&fd, handle, kHandleType, 0), "cuMemExportToShareableHandle");
  FileDescriptor exported(fd);
  return {map(allocation, device, rounded), std::move(exported)};
}

VirtualMemory import_virtual_memory(int device, const FileDescriptor& fd, std::size_t bytes) {
  CUmemGenericAllocationHandle handle = 0;
  // The driver takes the number of the descriptor for an address.
  auto* const number = std::bit_cast<void*>(static_cast<std::uintptr_t>(fd.get()));
  check_driver(driver().import_handle(&handle, number, kHandleType), "cuMemImportFromShareableHandle");
  return map(Allocation(handle), device, bytes);
}

void let_virtual_memory_reach(int device, const VirtualMemory& memory) {
  check_driver(set_access(memory, device), "cuMemSetAccess");
}

void release_virtual_memory(const VirtualMemory& memory) noexcept {
  static_cast<void>(driver().unmap(address_of(memory), memory.bytes));
  static_cast<void>(driver().free_address(address_of(memory), memory.bytes));
}

}  // namespace crossdock::cuda
