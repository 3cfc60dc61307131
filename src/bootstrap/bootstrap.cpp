#include <crossdock/bootstrap.hpp>

namespace crossdock {

Bootstrap::~Bootstrap() = default;

}  // namespace crossdock
