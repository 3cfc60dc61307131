#include <crossdock/bootstrap.hpp>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "binding.hpp"

namespace crossdock::python {

namespace {

using namespace nb::literals;

constexpr double kTimeoutSeconds = 100;

std::span<const std::byte> as_bytes(const nb::bytes& bytes) {
  return {static_cast<const std::byte*>(bytes.data()), bytes.size()};
}

nb::list all_gather(Bootstrap& self, const nb::bytes& mine, double timeout) {
  std::vector<Bytes> all;
  {
    const nb::gil_scoped_release no_gil;
    all = self.all_gather(as_bytes(mine), from_seconds(timeout));
  }
  nb::list result;
  for (const Bytes& bytes : all) result.append(nb::bytes(bytes.data(), bytes.size()));
  return result;
}

/// Called without the GIL; `function` is a callable whose owner takes the GIL when it dies.
std::vector<Bytes> call_all_gather(const std::shared_ptr<void>& function, std::span<const std::byte> mine) {
  const nb::gil_scoped_acquire gil;
  const nb::object result = nb::handle(static_cast<PyObject*>(function.get()))(nb::bytes(mine.data(), mine.size()));
  std::vector<Bytes> all;
  for (const nb::handle item : result) {
    const auto bytes = nb::cast<nb::bytes>(item);
    all.emplace_back(as_bytes(bytes).begin(), as_bytes(bytes).end());
  }
  return all;
}

std::shared_ptr<Bootstrap> from_callback(int rank, int size, nb::callable function) {
  return make_callback_bootstrap(
      {.rank = rank,
       .size = size,
       .all_gather = [function = keep_alive(std::move(function))](std::span<const std::byte> mine) {
         return call_all_gather(function, mine);
       }});
}

std::shared_ptr<Bootstrap> over_tcp(const std::string& address, std::uint16_t port, int rank, int size,
                                    const std::string& secret, double timeout) {
  const TcpBootstrapOptions options{address, port, rank, size, secret, from_seconds(timeout)};
  const nb::gil_scoped_release no_gil;
  return make_tcp_bootstrap(options);
}

std::shared_ptr<Bootstrap> from_environment(double timeout) {
  const nb::gil_scoped_release no_gil;
  auto options = tcp_bootstrap_options_from_environment();
  if (!options) return make_in_process_bootstraps(1).front();
  options->timeout = from_seconds(timeout);
  return make_tcp_bootstrap(*options);
}

}  // namespace

void bind_bootstraps(nb::module_& module) {
  nb::class_<Bootstrap>(module, "Bootstrap",
                        "A group of ranks that can exchange small messages, used only while a buffer is made.\n\n"
                        "Collective: every rank calls the same methods in the same order.")
      .def_prop_ro("rank", &Bootstrap::rank)
      .def_prop_ro("size", &Bootstrap::size)
      .def("all_gather", &all_gather, "mine"_a, "timeout"_a = kTimeoutSeconds,
           nb::sig("def all_gather(self, mine: bytes, timeout: float = 100.0) -> list[bytes]"),
           "Each rank's bytes, in rank order. The timeout is in seconds.")
      .def(
          "barrier",
          [](Bootstrap& self, double timeout) {
            const nb::gil_scoped_release no_gil;
            self.barrier(from_seconds(timeout));
          },
          "timeout"_a = kTimeoutSeconds, "Returns once every rank has called it.");
  module.def("make_in_process_bootstraps", &make_in_process_bootstraps, "size"_a,
             "Ranks as threads of one process: connected groups, element i is for rank i.");
  module.def(
      "make_callback_bootstrap", &from_callback, "rank"_a, "size"_a, "all_gather"_a,
      nb::sig("def make_callback_bootstrap(rank: int, size: int, all_gather: collections.abc.Callable[[bytes], "
              "collections.abc.Sequence[bytes]]) -> Bootstrap"),
      "A group that gathers through a function: it gets this rank's bytes, and returns every rank's in rank order. "
      "All contributions of a call have equal length.");
  module.def("make_tcp_bootstrap", &over_tcp, nb::kw_only(), "address"_a, "port"_a, "rank"_a, "size"_a, "secret"_a = "",
             "timeout"_a = kTimeoutSeconds,
             "TCP rendezvous at rank 0, which listens on `address` and `port`. With a secret every rank must know it.");
  module.def("make_bootstrap_from_environment", &from_environment, "timeout"_a = kTimeoutSeconds,
             "TCP rendezvous as the environment of torchrun, mpirun or srun says; a single rank if it says nothing.");
}

}  // namespace crossdock::python
