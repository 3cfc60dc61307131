#include <crossdock/config.hpp>

#include <cstdint>
#include <optional>
#include <string>

#include <nanobind/nanobind.h>
#include <nanobind/operators.h>
#include <nanobind/stl/string.h>

#include "binding.hpp"

namespace crossdock::python {

namespace {

using namespace nb::literals;

std::string description(const Config& config) {
  return "Config(num_sms=" + std::to_string(config.num_sms) +
         ", num_max_nvl_chunked_send_tokens=" + std::to_string(config.num_max_nvl_chunked_send_tokens) +
         ", num_max_nvl_chunked_recv_tokens=" + std::to_string(config.num_max_nvl_chunked_recv_tokens) +
         ", num_max_rdma_chunked_send_tokens=" + std::to_string(config.num_max_rdma_chunked_send_tokens) +
         ", num_max_rdma_chunked_recv_tokens=" + std::to_string(config.num_max_rdma_chunked_recv_tokens) + ")";
}

void initialize(Config* config, int num_sms, int nvl_send, int nvl_recv, int rdma_send, int rdma_recv) {
  const Config value{num_sms, nvl_send, nvl_recv, rdma_send, rdma_recv};
  value.validate();
  new (config) Config(value);
}

std::size_t arena_size_hint(std::int64_t num_recv_tokens, std::int64_t row_bytes, std::int64_t num_scales,
                            std::int64_t scale_bytes, std::int64_t num_topk, std::int64_t combine_row_bytes,
                            int operations_in_flight) {
  return get_arena_size_hint(
      {num_recv_tokens, row_bytes, num_scales, scale_bytes, num_topk, combine_row_bytes, operations_in_flight});
}

void bind_size_hints(nb::module_& module) {
  module.def("get_arena_size_hint", &arena_size_hint, nb::kw_only(), "num_recv_tokens"_a, "row_bytes"_a,
             "num_scales"_a = 0, "scale_bytes"_a = 4, "num_topk"_a = 0, "combine_row_bytes"_a = 0,
             "operations_in_flight"_a = 1,
             "Bytes of arena that hold the tensors of a throughput dispatch that receives num_recv_tokens rows.\n\n"
             "combine_row_bytes: bytes of a row that combine_input() or staging holds, 0 if not in the arena.");
  module.def("get_nvl_buffer_size_hint", &get_nvl_buffer_size_hint, "config"_a, "hidden_bytes"_a, "num_ranks"_a,
             "Bytes that DeepEP asks for in its NVLink buffer, by its formula.");
  module.def("get_rdma_buffer_size_hint", &get_rdma_buffer_size_hint, "config"_a, "hidden_bytes"_a, "num_ranks"_a,
             "Bytes that DeepEP asks for in its RDMA buffer, by its formula.");
  module.def("get_low_latency_rdma_size_hint", &get_low_latency_rdma_size_hint, "num_max_dispatch_tokens_per_rank"_a,
             "hidden"_a, "num_ranks"_a, "num_experts"_a,
             "Bytes of arena for low-latency mode: one dispatch and its combine at a time, in any row format.");
}

}  // namespace

void bind_config(nb::module_& module) {
  nb::class_<Config>(module, "Config",
                     "DeepEP's five tuning numbers. They are checked as there; a CPU has nothing to tune by them.")
      .def("__init__", &initialize, "num_sms"_a = 24, "num_max_nvl_chunked_send_tokens"_a = 6,
           "num_max_nvl_chunked_recv_tokens"_a = 256, "num_max_rdma_chunked_send_tokens"_a = 6,
           "num_max_rdma_chunked_recv_tokens"_a = 256)
      .def_ro("num_sms", &Config::num_sms)
      .def_ro("num_max_nvl_chunked_send_tokens", &Config::num_max_nvl_chunked_send_tokens)
      .def_ro("num_max_nvl_chunked_recv_tokens", &Config::num_max_nvl_chunked_recv_tokens)
      .def_ro("num_max_rdma_chunked_send_tokens", &Config::num_max_rdma_chunked_send_tokens)
      .def_ro("num_max_rdma_chunked_recv_tokens", &Config::num_max_rdma_chunked_recv_tokens)
      .def(
          "get_nvl_buffer_size_hint",
          [](const Config& config, std::int64_t hidden_bytes, int num_ranks) {
            return get_nvl_buffer_size_hint(config, hidden_bytes, num_ranks);
          },
          "hidden_bytes"_a, "num_ranks"_a, "The function of that name for this configuration.")
      .def(
          "get_rdma_buffer_size_hint",
          [](const Config& config, std::int64_t hidden_bytes, int num_ranks) {
            return get_rdma_buffer_size_hint(config, hidden_bytes, num_ranks);
          },
          "hidden_bytes"_a, "num_ranks"_a, "The function of that name for this configuration.")
      .def(
          "__eq__", [](const Config& a, const Config& b) { return a == b; }, nb::is_operator(),
          nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__repr__", &description);
  module.def("get_dispatch_config", &get_dispatch_config, "num_ranks"_a, "num_sms"_a = 24,
             "DeepEP's recommended configuration for dispatch; numbers of ranks between those of its table are rounded "
             "up.");
  module.def("get_combine_config", &get_combine_config, "num_ranks"_a, "num_sms"_a = 24, "The same for combine.");
  bind_size_hints(module);
}

}  // namespace crossdock::python
