// What the parts of the extension module know of each other. All of it requires the GIL unless it says otherwise.
#pragma once

#include <chrono>
#include <memory>

#include <nanobind/nanobind.h>

#include <crossdock/types.hpp>

namespace crossdock::python {

namespace nb = nanobind;

// Each defines the classes and functions of its topic in the module.
void bind_errors(nb::module_& module);
void bind_config(nb::module_& module);
void bind_tensor(nb::module_& module);
void bind_bootstraps(nb::module_& module);
void bind_results(nb::module_& module);
void bind_low_latency_results(nb::module_& module);
void bind_buffer(nb::module_& module);

/// An owner that gives up its reference to `object` in whatever thread it dies; for that it takes the GIL itself.
[[nodiscard]] std::shared_ptr<void> keep_alive(nb::object object);

/// Python's seconds as the library's milliseconds, rounded up so that a positive time does not become zero.
[[nodiscard]] inline std::chrono::milliseconds from_seconds(double seconds) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
}

}  // namespace crossdock::python
