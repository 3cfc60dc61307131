// A Buffer as Python holds it.
#pragma once

#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include <nanobind/nanobind.h>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>

namespace crossdock::python {

namespace nb = nanobind;

/// The library lets one thread at a time call a buffer. Python's threads used to be kept apart by the GIL, which
/// operations release; so a lock keeps them apart. It is always taken without the GIL: whoever holds it may need the
/// GIL, to give up a tensor.
class PythonBuffer {
 public:
  PythonBuffer(const std::shared_ptr<Bootstrap>& bootstrap, const BufferOptions& options)
      : buffer_(bootstrap, options), device_(options.device) {}
  /// Releases the GIL, because the end of the buffer waits for its worker.
  ~PythonBuffer() {
    const nb::gil_scoped_release no_gil;
    destroy();
  }
  PythonBuffer(const PythonBuffer&) = delete;
  PythonBuffer& operator=(const PythonBuffer&) = delete;

  /// Runs `body` on the buffer, without the GIL.
  template <class Body>
  auto run(Body body) {
    const nb::gil_scoped_release no_gil;
    const std::lock_guard lock(*mutex_);
    return body(buffer_);
  }
  /// Makes the arguments of an operation with the GIL, then runs it without. If they cannot be made, the other ranks,
  /// which wait in the operation, hear why, and so does the caller.
  template <class Input, class MakeInput, class Body>
  auto run_operation(const char* operation, OperationMode mode, MakeInput make_input, Body body) {
    std::optional<Input> input;
    try {
      input.emplace(make_input());
    } catch (const std::exception& error) {
      refuse(operation, mode, error);
    }
    return run([&](Buffer& buffer) { return body(buffer, *input); });
  }
  /// What takes no time and changes nothing.
  [[nodiscard]] const Buffer& look() const { return buffer_; }
  [[nodiscard]] Device device() const { return device_; }
  /// For hooks, which outlive the call and may outlive the buffer.
  [[nodiscard]] const std::shared_ptr<std::mutex>& mutex() const { return mutex_; }

 private:
  [[noreturn]] void refuse(const char* operation, OperationMode mode, const std::exception& error) {
    const int rank = buffer_.rank();
    const Error reason(ErrorCode::kInvalidArgument,
                       "rank " + std::to_string(rank) + ": " + operation + ": " + error.what());
    try {
      run([&](Buffer& buffer) { buffer.refuse(reason, mode); });
    } catch (const Error&) {  // there is nobody to tell: the buffer is broken or destroyed
    }
    throw Error(reason).with_rank(rank);
  }
  void destroy() {
    const std::lock_guard lock(*mutex_);
    buffer_.destroy();
  }

  Buffer buffer_;
  Device device_;
  std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
};

// The operations are bound where their topic is.
void bind_throughput(nb::class_<PythonBuffer>& buffer);
void bind_low_latency(nb::class_<PythonBuffer>& buffer);

}  // namespace crossdock::python
