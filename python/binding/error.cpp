#include <crossdock/error.hpp>

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "binding.hpp"

namespace crossdock::python {

namespace {

nb::object wait_of(const Error& error) { return error.wait() ? nb::cast(*error.wait()) : nb::object(nb::none()); }

void raise(const Error& error) {
  const nb::object type = nb::module_::import_("crossdock.error").attr("Error");
  const nb::object value = type(error.what(), error.code(), error.rank(), error.system_error(), wait_of(error));
  PyErr_SetObject(type.ptr(), value.ptr());
}

void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const Error& error) {
    raise(error);
  }
}

}  // namespace

std::shared_ptr<void> keep_alive(nb::object object) {
  return {object.release().ptr(), [](void* reference) {
            if (!nb::is_alive()) return;  // after the interpreter's end there is nothing left to give back to
            const nb::gil_scoped_acquire gil;
            Py_DECREF(static_cast<PyObject*>(reference));
          }};
}

void bind_errors(nb::module_& module) {
  nb::enum_<ErrorCode>(module, "ErrorCode", "What kind of failure an Error is.")
      .value("INVALID_ARGUMENT", ErrorCode::kInvalidArgument, "an argument is wrong on this rank, or on Error.rank")
      .value("MISMATCH", ErrorCode::kMismatch, "ranks called with arguments that do not fit together")
      .value("CAPACITY", ErrorCode::kCapacity, "an arena, a table or a limit is too small")
      .value("TIMEOUT", ErrorCode::kTimeout, "a deadline passed; Error.wait says who was waited for")
      .value("PEER_LOST", ErrorCode::kPeerLost, "a peer died, left, or gave up")
      .value("BOOTSTRAP", ErrorCode::kBootstrap, "ranks could not find or did not trust each other")
      .value("SYSTEM", ErrorCode::kSystem, "the operating system refused; Error.system_error has errno")
      .value("STATE", ErrorCode::kState, "the object cannot do this now: destroyed, or broken by an earlier error")
      .value("FORMAT", ErrorCode::kFormat, "a file or a message is malformed")
      .value("UNSUPPORTED", ErrorCode::kUnsupported, "this build or this machine cannot do it");
  nb::class_<WaitFailure>(module, "WaitFailure", "What a wait that failed was waiting for.")
      .def_ro("operation", &WaitFailure::operation, "\"dispatch\", \"combine\", \"bootstrap\", ...")
      .def_ro("phase", &WaitFailure::phase, "\"announce\", \"place\", \"send\", ...")
      .def_ro("epoch", &WaitFailure::epoch, "number of the operation in its buffer, from 1")
      .def_ro("rank", &WaitFailure::rank, "the rank waited for")
      .def_ro("expected", &WaitFailure::expected)
      .def_ro("seen", &WaitFailure::seen);
  nb::register_exception_translator(translate);
}

}  // namespace crossdock::python
