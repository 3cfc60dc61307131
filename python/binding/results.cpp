// Events, handles, and what the throughput operations take and return.
#include <optional>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <crossdock/buffer.hpp>

#include "binding.hpp"
#include "device.hpp"
#include "tensor.hpp"

namespace crossdock::python {

namespace {

using namespace nb::literals;

void initialize_options(OperationOptions* options, Completion completion, Allocation allocation,
                        std::optional<Event> previous_event, std::optional<double> timeout,
                        const std::optional<ArrayLike>& wait_recv_cost_stats, const nb::object& stream) {
  const Stream native = to_stream(stream);
  new (options) OperationOptions{
      .completion = completion,
      .allocation = allocation,
      .previous_event = std::move(previous_event),
      .timeout = timeout ? std::optional(from_seconds(*timeout)) : std::nullopt,
      .stream = native,
      .wait_recv_cost_stats = to_optional_tensor(wait_recv_cost_stats, "wait_recv_cost_stats", native)};
}

void bind_options(nb::module_& module) {
  nb::enum_<Completion>(module, "Completion", "When a call returns.")
      .value("SYNCHRONOUS", Completion::kSynchronous, "when the results may be used")
      .value("ASYNCHRONOUS", Completion::kAsynchronous, "early; the results may be used after the returned event")
      .value("HOOK", Completion::kHook, "low-latency operations: the call sends, the returned hook receives")
      .value("STREAM", Completion::kStream, "when the operation is queued on the caller's stream");
  nb::enum_<Allocation>(module, "Allocation", "Which stream the results belong to.")
      .value("CALLER_STREAM", Allocation::kCallerStream)
      .value("COMMUNICATION_STREAM", Allocation::kCommunicationStream, "needs a previous_event and ASYNCHRONOUS");
  nb::class_<Event>(module, "Event", "Completion of an operation; without arguments a complete one. Thread-safe.")
      .def(nb::init<>())
      .def("is_complete", &Event::is_complete, "True once the operation has ended, well or badly. Never blocks.")
      .def("wait", &Event::wait, nb::call_guard<nb::gil_scoped_release>(),
           "Blocks until the operation has ended, and raises the Error with which it ended, if any.");
  module.def(
      "capture_stream",
      [](const nb::object& device, const nb::object& stream) {
        const Stream native = to_stream(stream, to_device(device));
        const nb::gil_scoped_release no_gil;
        return capture_stream(native);
      },
      "device"_a, "stream"_a = nb::none(),
      "The point that a stream of a device has reached: an event that is complete once what was queued before is "
      "done.");
  nb::class_<OperationOptions>(
      module, "OperationOptions",
      "How one operation runs. May differ between ranks.\n\n"
      "timeout: seconds. wait_recv_cost_stats: int64 [ranks], to which the nanoseconds are added "
      "that this rank waits for each. stream: of the caller, for a buffer on a CUDA device: the operation starts after "
      "what is queued on it, where arrays are expected too. An address, or a stream of torch or of what has "
      "__cuda_stream__; None is the default stream.")
      .def("__init__", &initialize_options, nb::kw_only(), "completion"_a = Completion::kSynchronous,
           "allocation"_a = Allocation::kCallerStream, "previous_event"_a = nb::none(), "timeout"_a = nb::none(),
           "wait_recv_cost_stats"_a = nb::none(), "stream"_a = nb::none());
}

void bind_layout(nb::module_& module) {
  nb::class_<DispatchLayout>(module, "DispatchLayout", "Where the tokens of a rank go.")
      .def(
          "__init__",
          [](DispatchLayout* layout, const ArrayLike& per_rank, const ArrayLike& per_expert, const ArrayLike& in_rank) {
            new (layout)
                DispatchLayout{to_tensor(per_rank, "num_tokens_per_rank"), std::nullopt,
                               to_tensor(per_expert, "num_tokens_per_expert"), to_tensor(in_rank, "is_token_in_rank")};
          },
          "num_tokens_per_rank"_a, "num_tokens_per_expert"_a, "is_token_in_rank"_a)
      .def_ro("num_tokens_per_rank", &DispatchLayout::num_tokens_per_rank, "int32 [ranks]")
      .def_ro("num_tokens_per_node", &DispatchLayout::num_tokens_per_node, "int32 [nodes], None with one node")
      .def_ro("num_tokens_per_expert", &DispatchLayout::num_tokens_per_expert, "int32 [experts]")
      .def_ro("is_token_in_rank", &DispatchLayout::is_token_in_rank, "bool [tokens, ranks]");
}

void bind_handle(nb::module_& module) {
  nb::class_<ParityMatrices>(module, "ParityMatrices", "DeepEP's handle; crossdock itself does not need it.")
      .def_ro("rank_prefix_matrix", &ParityMatrices::rank_prefix_matrix, "int32 [ranks, ranks]")
      .def_ro("channel_prefix_matrix", &ParityMatrices::channel_prefix_matrix, "int32 [ranks, channels]")
      .def_ro("recv_channel_prefix_matrix", &ParityMatrices::recv_channel_prefix_matrix, "int32 [ranks, channels]")
      .def_ro("recv_src_idx", &ParityMatrices::recv_src_idx, "int32 [received rows]")
      .def_ro("is_token_in_rank", &ParityMatrices::is_token_in_rank, "bool [tokens, ranks]")
      .def_ro("send_head", &ParityMatrices::send_head, "int32 [tokens, ranks]");
  nb::class_<DispatchHandle>(
      module, "DispatchHandle",
      "What combine needs to know of its dispatch. For any number of combines and cached "
      "dispatches of its buffer, which it may outlive.\n\n"
      "All members but num_recv_rows and has_worst_case wait for the dispatch to end, and raise what it ended with.")
      .def_prop_ro("num_tokens", &DispatchHandle::num_tokens, "Tokens that this rank dispatched.")
      .def_prop_ro("num_recv_tokens", &DispatchHandle::num_recv_tokens, nb::call_guard<nb::gil_scoped_release>(),
                   "Rows that this rank received, without the padding of a worst case.")
      .def_prop_ro("num_recv_rows", &DispatchHandle::num_recv_rows, "Rows of the received tensors.")
      .def_prop_ro("has_worst_case", &DispatchHandle::has_worst_case, "Of a dispatch with num_worst_tokens.")
      .def("recv_src_idx", &DispatchHandle::recv_src_idx, nb::call_guard<nb::gil_scoped_release>(),
           "int32 [num_recv_rows]: each row's index among its source rank's tokens.")
      .def("rank_prefix_matrix", &DispatchHandle::rank_prefix_matrix, nb::call_guard<nb::gil_scoped_release>(),
           "int32 [ranks, ranks]: [i][j] is the number of rows that ranks up to and including i send to rank j.")
      .def("parity_matrices", &DispatchHandle::parity_matrices, "num_channels"_a,
           nb::call_guard<nb::gil_scoped_release>(),
           "DeepEP's matrices for that many channels, computed on each call.");
}

void bind_outputs(nb::module_& module) {
  nb::class_<DispatchOutput>(module, "DispatchOutput",
                             "M received rows, ordered by (source rank, source token). The tensors are in the arena.")
      .def_ro("recv_x", &DispatchOutput::recv_x, "[M, hidden], dtype of x")
      .def_ro("recv_x_scales", &DispatchOutput::recv_x_scales, "[M, scales], dtype of x_scales, row-major")
      .def_ro("recv_topk_idx", &DispatchOutput::recv_topk_idx, "[M, top-k]: number within this rank, or -1")
      .def_ro("recv_topk_weights", &DispatchOutput::recv_topk_weights, "float32 [M, top-k], 0 where the id is -1")
      .def_ro("num_recv_tokens_per_expert", &DispatchOutput::num_recv_tokens_per_expert,
              "Selections of each local expert, rounded up to expert_alignment; empty for cached and worst-case "
              "dispatches.")
      .def_ro("handle", &DispatchOutput::handle)
      .def_ro("event", &DispatchOutput::event, "complete already if the call was synchronous");
  nb::class_<CombineOutput>(module, "CombineOutput", "The sums of the rows of each token, by ascending rank.")
      .def_ro("combined_x", &CombineOutput::combined_x, "[tokens, hidden], dtype of x")
      .def_ro("combined_topk_weights", &CombineOutput::combined_topk_weights, "float32 [tokens, top-k]")
      .def_ro("event", &CombineOutput::event);
}

}  // namespace

void bind_results(nb::module_& module) {
  bind_options(module);
  bind_layout(module);
  bind_handle(module);
  bind_outputs(module);
}

}  // namespace crossdock::python
