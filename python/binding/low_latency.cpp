// The pair for decoding.
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <crossdock/low_latency.hpp>

#include "binding.hpp"
#include "python_buffer.hpp"
#include "tensor.hpp"

namespace crossdock::python {

namespace {

using namespace nb::literals;

/// A hook calls its buffer, so it takes the buffer's lock.
class PythonHook {
 public:
  PythonHook(ReceiveHook hook, std::shared_ptr<std::mutex> mutex) : hook_(std::move(hook)), mutex_(std::move(mutex)) {}
  void call() const {
    const nb::gil_scoped_release no_gil;
    const std::lock_guard lock(*mutex_);
    hook_();
  }

 private:
  ReceiveHook hook_;
  std::shared_ptr<std::mutex> mutex_;
};

std::optional<PythonHook> to_python(const ReceiveHook& hook, const PythonBuffer& buffer) {
  if (!hook.defined()) return std::nullopt;
  return PythonHook(hook, buffer.mutex());
}

struct PythonDispatchOutput {
  LowLatencyDispatchOutput output;
  std::optional<PythonHook> hook;
};

struct PythonCombineOutput {
  LowLatencyCombineOutput output;
  std::optional<PythonHook> hook;
};

PythonDispatchOutput low_latency_dispatch(PythonBuffer& self, const ArrayLike& x, const ArrayLike& topk_idx,
                                          std::int64_t num_max_dispatch_tokens_per_rank, int num_experts,
                                          RowFormat format, const std::optional<ArrayLike>& stats,
                                          const OperationOptions& options) {
  const auto make_input = [&] {
    return LowLatencyDispatchInput{.x = to_tensor(x, "x", options.stream),
                                   .topk_idx = to_tensor(topk_idx, "topk_idx", options.stream),
                                   .num_max_dispatch_tokens_per_rank = num_max_dispatch_tokens_per_rank,
                                   .num_experts = num_experts,
                                   .format = format,
                                   .cumulative_local_expert_recv_stats =
                                       to_optional_tensor(stats, "cumulative_local_expert_recv_stats", options.stream)};
  };
  const auto body = [&](Buffer& buffer, const LowLatencyDispatchInput& input) {
    return buffer.low_latency_dispatch(input, options);
  };
  auto output =
      self.run_operation<LowLatencyDispatchInput>("low_latency_dispatch", OperationMode::kLowLatency, make_input, body);
  auto hook = to_python(std::exchange(output.hook, ReceiveHook()), self);
  return {std::move(output), std::move(hook)};
}

PythonCombineOutput low_latency_combine(PythonBuffer& self, const ArrayLike& x, const ArrayLike& topk_weights,
                                        const LowLatencyHandle& handle, const std::optional<ArrayLike>& topk_idx,
                                        const std::optional<ArrayLike>& out, bool zero_copy, bool use_logfmt,
                                        const OperationOptions& options) {
  const auto make_input = [&] {
    return LowLatencyCombineInput{.x = to_tensor(x, "x", options.stream),
                                  .topk_weights = to_tensor(topk_weights, "topk_weights", options.stream),
                                  .handle = handle,
                                  .topk_idx = to_optional_tensor(topk_idx, "topk_idx", options.stream),
                                  .out = to_optional_tensor(out, "out", options.stream),
                                  .zero_copy = zero_copy,
                                  .use_logfmt = use_logfmt};
  };
  const auto body = [&](Buffer& buffer, const LowLatencyCombineInput& input) {
    return buffer.low_latency_combine(input, options);
  };
  auto output =
      self.run_operation<LowLatencyCombineInput>("low_latency_combine", OperationMode::kLowLatency, make_input, body);
  auto hook = to_python(std::exchange(output.hook, ReceiveHook()), self);
  return {std::move(output), std::move(hook)};
}

void bind_handle(nb::module_& module) {
  nb::class_<LowLatencyHandle>(module, "LowLatencyHandle",
                               "What low_latency_combine needs to know of its dispatch. For any number of combines.")
      .def_prop_ro("num_tokens", &LowLatencyHandle::num_tokens)
      .def_prop_ro("num_max_dispatch_tokens_per_rank", &LowLatencyHandle::num_max_dispatch_tokens_per_rank)
      .def_prop_ro("hidden", &LowLatencyHandle::hidden)
      .def_prop_ro("num_experts", &LowLatencyHandle::num_experts)
      .def("packed_recv_src_info", &LowLatencyHandle::packed_recv_src_info,
           "int32 [local experts, ranks * M]: token of each row at its source; defined once the dispatch was received.")
      .def("packed_recv_layout_range", &LowLatencyHandle::packed_recv_layout_range,
           "int64 [local experts, ranks]: rows of each source, count in the low half, first row in the high half.");
  nb::class_<PythonHook>(module, "ReceiveHook",
                         "The second half of an operation with Completion.HOOK. Called once, in the order of the "
                         "operations on all ranks, by one thread at a time.")
      .def("__call__", &PythonHook::call, "Waits for the other ranks' rows; then the results may be used.");
}

void bind_outputs(nb::module_& module) {
  const auto dispatch_member = [](auto member) {
    return [member](const PythonDispatchOutput& self) { return self.output.*member; };
  };
  const auto combine_member = [](auto member) {
    return [member](const PythonCombineOutput& self) { return self.output.*member; };
  };
  nb::class_<PythonDispatchOutput>(module, "LowLatencyDispatchOutput",
                                   "Rows of each local expert, ordered by (source rank, source token), from row 0.")
      .def_prop_ro("packed_recv_x", dispatch_member(&LowLatencyDispatchOutput::packed_recv_x),
                   "bfloat16 or FP8 [local experts, ranks * M, hidden]")
      .def_prop_ro("packed_recv_x_scales", dispatch_member(&LowLatencyDispatchOutput::packed_recv_x_scales),
                   "FP8 only: float32 (UE8M0: int32, four to one) [local experts, ranks * M, groups of 128 channels], "
                   "column-major in the last two dimensions")
      .def_prop_ro("packed_recv_count", dispatch_member(&LowLatencyDispatchOutput::packed_recv_count),
                   "int32 [local experts]")
      .def_prop_ro("handle", dispatch_member(&LowLatencyDispatchOutput::handle))
      .def_prop_ro("event", dispatch_member(&LowLatencyDispatchOutput::event))
      .def_ro("hook", &PythonDispatchOutput::hook, "only of a call with Completion.HOOK");
  nb::class_<PythonCombineOutput>(module, "LowLatencyCombineOutput", "The weighted sums of each token's rows.")
      .def_prop_ro("combined_x", combine_member(&LowLatencyCombineOutput::combined_x), "bfloat16 [tokens, hidden]")
      .def_prop_ro("event", combine_member(&LowLatencyCombineOutput::event))
      .def_ro("hook", &PythonCombineOutput::hook, "only of a call with Completion.HOOK");
}

}  // namespace

void bind_low_latency_results(nb::module_& module) {
  nb::enum_<RowFormat>(module, "RowFormat", "What a low-latency dispatch makes of a row.")
      .value("BFLOAT16", RowFormat::kBfloat16, "as it is")
      .value("FLOAT8", RowFormat::kFloat8, "E4M3, a float32 scale for each 128 channels")
      .value("FLOAT8_POWER_OF_TWO", RowFormat::kFloat8PowerOfTwo, "E4M3, float32 scales that are powers of two")
      .value("FLOAT8_UE8M0", RowFormat::kFloat8Ue8m0, "E4M3, the same scales as exponent bytes, four to an int32");
  bind_handle(module);
  bind_outputs(module);
}

void bind_low_latency(nb::class_<PythonBuffer>& buffer) {
  buffer
      .def("low_latency_dispatch", &low_latency_dispatch, "x"_a, "topk_idx"_a, "num_max_dispatch_tokens_per_rank"_a,
           "num_experts"_a, nb::kw_only(), "format"_a = RowFormat::kFloat8,
           "cumulative_local_expert_recv_stats"_a = nb::none(), "options"_a = OperationOptions{},
           "Sends one row for each token and expert, packed by expert at the receiver. Collective.\n\n"
           "x: bfloat16 [tokens, hidden]. topk_idx: int64 or int32 [tokens, top-k], ids or -1.\n"
           "num_max_dispatch_tokens_per_rank: at least the tokens of any rank, equal on all of them.\n"
           "cumulative_local_expert_recv_stats: int32 [local experts], to which the received counts are added.")
      .def(
          "low_latency_combine", &low_latency_combine, "x"_a, "topk_weights"_a, "handle"_a, nb::kw_only(),
          "topk_idx"_a = nb::none(), "out"_a = nb::none(), "zero_copy"_a = false, "use_logfmt"_a = false,
          "options"_a = OperationOptions{},
          "Brings the rows back and sums them, weighted by topk_weights. Collective.\n\n"
          "x: bfloat16 [local experts, ranks * M, hidden], read in place if it lies in the arena. topk_weights:\n"
          "float32 [tokens, top-k]. out: bfloat16 [tokens, hidden]. zero_copy: x is what next_combine_buffer gave for\n"
          "this handle, and must not be written again. use_logfmt: rows travel as LogFMT-10; equal on all ranks.\n"
          "topk_idx: if given, checked to be that of the dispatch.")
      .def(
          "next_combine_buffer",
          [](PythonBuffer& self, const LowLatencyHandle& handle) {
            return self.run([&](Buffer& b) { return b.next_combine_buffer(handle); });
          },
          "handle"_a,
          "A tensor bfloat16 [local experts, ranks * M, hidden] in the arena, contents undefined, for one "
          "low_latency_combine with zero_copy.")
      .def(
          "clean_low_latency_buffer",
          [](const PythonBuffer& self, std::int64_t max_tokens, std::int64_t hidden, int num_experts) {
            self.look().clean_low_latency_buffer(max_tokens, hidden, num_experts);
          },
          "num_max_dispatch_tokens_per_rank"_a, "hidden"_a, "num_experts"_a,
          "For callers of DeepEP, where signals must be zeroed; here nothing needs to be done.");
}

}  // namespace crossdock::python
