// Dispatch and combine in throughput mode.
#include <cstdint>
#include <optional>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include "python_buffer.hpp"
#include "tensor.hpp"

namespace crossdock::python {

namespace {

using namespace nb::literals;

DispatchLayout get_dispatch_layout(PythonBuffer& self, const ArrayLike& topk_idx, int num_experts,
                                   const OperationOptions& options) {
  const Tensor ids = to_tensor(topk_idx, "topk_idx", options.stream);
  return self.run([&](Buffer& buffer) { return buffer.get_dispatch_layout(ids, num_experts, options); });
}

OperationMode mode_of(bool has_worst_case) {
  return has_worst_case ? OperationMode::kWorstCase : OperationMode::kThroughput;
}

DispatchOutput dispatch(PythonBuffer& self, const ArrayLike& x, const std::optional<ArrayLike>& topk_idx,
                        const std::optional<ArrayLike>& topk_weights, int num_experts,
                        const std::optional<ArrayLike>& x_scales, const std::optional<DispatchLayout>& layout,
                        int expert_alignment, std::optional<std::int64_t> num_worst_tokens,
                        const std::optional<ArrayLike>& stats, const std::optional<Config>& config,
                        const OperationOptions& options) {
  const auto make_input = [&] {
    return DispatchInput{.x = to_tensor(x, "x", options.stream),
                         .x_scales = to_optional_tensor(x_scales, "x_scales", options.stream),
                         .topk_idx = to_optional_tensor(topk_idx, "topk_idx", options.stream),
                         .topk_weights = to_optional_tensor(topk_weights, "topk_weights", options.stream),
                         .layout = layout,
                         .num_experts = num_experts,
                         .expert_alignment = expert_alignment,
                         .num_worst_tokens = num_worst_tokens,
                         .cumulative_local_expert_recv_stats =
                             to_optional_tensor(stats, "cumulative_local_expert_recv_stats", options.stream),
                         .config = config};
  };
  return self.run_operation<DispatchInput>(
      "dispatch", mode_of(num_worst_tokens.has_value()), make_input,
      [&](Buffer& buffer, const DispatchInput& input) { return buffer.dispatch(input, options); });
}

DispatchOutput dispatch_cached(PythonBuffer& self, const ArrayLike& x, const DispatchHandle& handle,
                               const std::optional<ArrayLike>& x_scales, const std::optional<Config>& config,
                               const OperationOptions& options) {
  const auto make_input = [&] {
    return CachedDispatchInput{.x = to_tensor(x, "x", options.stream),
                               .x_scales = to_optional_tensor(x_scales, "x_scales", options.stream),
                               .handle = handle,
                               .config = config};
  };
  return self.run_operation<CachedDispatchInput>(
      "cached dispatch", mode_of(handle.defined() && handle.has_worst_case()), make_input,
      [&](Buffer& buffer, const CachedDispatchInput& input) { return buffer.dispatch(input, options); });
}

CombineOutput combine(PythonBuffer& self, const ArrayLike& x, const DispatchHandle& handle,
                      const std::optional<ArrayLike>& topk_weights, const std::optional<ArrayLike>& bias_0,
                      const std::optional<ArrayLike>& bias_1, const std::optional<ArrayLike>& out,
                      const std::optional<Config>& config, const OperationOptions& options) {
  const auto make_input = [&] {
    return CombineInput{.x = to_tensor(x, "x", options.stream),
                        .handle = handle,
                        .topk_weights = to_optional_tensor(topk_weights, "topk_weights", options.stream),
                        .bias_0 = to_optional_tensor(bias_0, "bias_0", options.stream),
                        .bias_1 = to_optional_tensor(bias_1, "bias_1", options.stream),
                        .out = to_optional_tensor(out, "out", options.stream),
                        .config = config};
  };
  return self.run_operation<CombineInput>(
      "combine", mode_of(handle.defined() && handle.has_worst_case()), make_input,
      [&](Buffer& buffer, const CombineInput& input) { return buffer.combine(input, options); });
}

}  // namespace

void bind_throughput(nb::class_<PythonBuffer>& buffer) {
  buffer
      .def("get_dispatch_layout", &get_dispatch_layout, "topk_idx"_a, "num_experts"_a, nb::kw_only(),
           "options"_a = OperationOptions{},
           "Counts where the tokens of this rank go; local. topk_idx: int64 or int32 [tokens, top-k], -1 selects "
           "nothing.")
      .def("dispatch", &dispatch, "x"_a, "topk_idx"_a = nb::none(), "topk_weights"_a = nb::none(), nb::kw_only(),
           "num_experts"_a = 0, "x_scales"_a = nb::none(), "layout"_a = nb::none(), "expert_alignment"_a = 1,
           "num_worst_tokens"_a = nb::none(), "cumulative_local_expert_recv_stats"_a = nb::none(),
           "config"_a = nb::none(), "options"_a = OperationOptions{},
           "Sends each token to the ranks that own its experts. Collective.\n\n"
           "x: [tokens, hidden] of any dtype. topk_idx: int64 or int32 [tokens, top-k], ids or -1, and topk_weights:\n"
           "float32 [tokens, top-k]; both or neither, and without them `layout` is required, which else is computed.\n"
           "num_experts: 0 takes it from `layout`. x_scales: [tokens, scales] of any dtype and strides.\n"
           "expert_alignment: returned counts are rounded up to a multiple of it. num_worst_tokens: rows of the\n"
           "received tensors, whatever is received. cumulative_local_expert_recv_stats: int32 [local experts], to "
           "which\n"
           "the received selections are added.")
      .def("dispatch_cached", &dispatch_cached, "x"_a, "handle"_a, nb::kw_only(), "x_scales"_a = nb::none(),
           "config"_a = nb::none(), "options"_a = OperationOptions{},
           "A dispatch that repeats the routing of an earlier one on other rows. Collective.")
      .def("combine", &combine, "x"_a, "handle"_a, nb::kw_only(), "topk_weights"_a = nb::none(),
           "bias_0"_a = nb::none(), "bias_1"_a = nb::none(), "out"_a = nb::none(), "config"_a = nb::none(),
           "options"_a = OperationOptions{},
           "Brings the rows back and sums them at their token's rank, by ascending rank, unweighted. Collective.\n\n"
           "x: bfloat16 or float32 [received rows, hidden], read in place if it lies in the arena. topk_weights:\n"
           "float32 [received rows, top-k], summed likewise. bias_0, bias_1, out: [tokens, hidden] of the dtype of x.")
      .def(
          "combine_input",
          [](PythonBuffer& self, const DispatchHandle& handle, std::int64_t hidden, DataType dtype) {
            return self.run([&](Buffer& b) { return b.combine_input(handle, hidden, dtype); });
          },
          "handle"_a, "hidden"_a, "dtype"_a = DataType::kBfloat16,
          "A tensor [handle.num_recv_rows, hidden] in the arena, contents undefined; combine reads it in place.");
}

}  // namespace crossdock::python
