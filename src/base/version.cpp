#include <crossdock/version.hpp>

#define CROSSDOCK_TEXT_OF(x) #x
#define CROSSDOCK_DOTTED(major, minor, patch) \
  CROSSDOCK_TEXT_OF(major) "." CROSSDOCK_TEXT_OF(minor) "." CROSSDOCK_TEXT_OF(patch)

namespace crossdock {

std::string_view version() noexcept {
  return CROSSDOCK_DOTTED(CROSSDOCK_VERSION_MAJOR, CROSSDOCK_VERSION_MINOR, CROSSDOCK_VERSION_PATCH);
}

}  // namespace crossdock
