#include "backend/host/factory.hpp"

#include "backend/host/host_backend.hpp"
#include "backend/host/kernels.hpp"

namespace crossdock::host {

std::unique_ptr<backend::Backend> make_backend(Bootstrap& bootstrap, const BufferOptions& options) {
  return std::make_unique<HostBackend>(bootstrap, options);
}

std::string_view simd_target_name() { return simd_target(); }

}  // namespace crossdock::host
