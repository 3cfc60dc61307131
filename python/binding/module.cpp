// The extension module crossdock._crossdock: the C++ API as Python objects.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>

#include <crossdock/version.hpp>

#include "binding.hpp"

NB_MODULE(_crossdock, module) {
  module.doc() = "The C++ library as Python objects. Use it through the package crossdock.";
  nanobind::set_leak_warnings(false);  // what a program still holds at its end is no leak
  module.def("version", &crossdock::version, "Version of the library.");
  // What others have as a default value or in their signatures comes first.
  crossdock::python::bind_errors(module);
  crossdock::python::bind_config(module);
  crossdock::python::bind_tensor(module);
  crossdock::python::bind_bootstraps(module);
  crossdock::python::bind_results(module);
  crossdock::python::bind_low_latency_results(module);
  crossdock::python::bind_buffer(module);
}
