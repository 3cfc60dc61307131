// What the emulated devices are, and which calls they forbid.
#pragma once

#include <cstddef>

namespace crossdock::emulator {

inline constexpr int kMultiprocessors = 24;
inline constexpr std::size_t kMemoryBytes = std::size_t{8} << 30U;

/// While it lives, this thread runs what CUDA calls back, which must not call CUDA.
class Callback {
 public:
  explicit Callback(const char* what);
  ~Callback();
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  Callback(Callback&&) = delete;
  Callback& operator=(Callback&&) = delete;
};

/// Ends the process if this thread runs a callback.
void require_no_callback(const char* call);

}  // namespace crossdock::emulator
