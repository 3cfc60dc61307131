// Calls of CUDA that CUDA forbids.
#pragma once

namespace crossdock::emulator {

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
