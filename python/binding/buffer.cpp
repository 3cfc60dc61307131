// The class that an engine holds: construction, and what concerns no single operation.
#include <crossdock/buffer.hpp>

#include <cstdint>
#include <memory>
#include <string>

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <crossdock/error.hpp>

#include "binding.hpp"
#include "device.hpp"
#include "python_buffer.hpp"

namespace crossdock::python {

namespace {

using namespace nb::literals;

void initialize(PythonBuffer* buffer, const std::shared_ptr<Bootstrap>& bootstrap, std::size_t arena_bytes,
                int max_experts, int ranks_per_node, double timeout, double setup_timeout, HugePages huge_pages,
                bool mask_lost_ranks, const nb::object& device) {
  const BufferOptions options{.arena_bytes = arena_bytes,
                              .max_experts = max_experts,
                              .ranks_per_node = ranks_per_node,
                              .timeout = from_seconds(timeout),
                              .setup_timeout = from_seconds(setup_timeout),
                              .mask_lost_ranks = mask_lost_ranks,
                              .huge_pages = huge_pages,
                              .device = to_device(device)};
  const nb::gil_scoped_release no_gil;
  new (buffer) PythonBuffer(bootstrap, options);
}

void bind_phase_times(nb::module_& module) {
  using Times = Buffer::PhaseTimes;
  nb::class_<Times>(module, "PhaseTimes", "Phases of the last finished operation, in microseconds.")
      .def_ro("layout_us", &Times::layout_us, "counting and row offsets")
      .def_ro("announce_us", &Times::announce_us, "exchanging counts, until all ranks had announced")
      .def_ro("place_us", &Times::place_us, "slabs, until all ranks had placed")
      .def_ro("copy_us", &Times::copy_us, "moving or reducing rows")
      .def_ro("wait_us", &Times::wait_us, "waiting for the peers to finish");
}

void bind_properties(nb::class_<PythonBuffer>& buffer) {
  buffer.def_prop_ro("rank", [](const PythonBuffer& self) { return self.look().rank(); })
      .def_prop_ro("num_ranks", [](const PythonBuffer& self) { return self.look().num_ranks(); })
      .def_prop_ro(
          "is_available", [](const PythonBuffer& self) { return self.look().is_available(); },
          "Neither destroyed nor broken.")
      .def_prop_ro(
          "arena_bytes_free", [](const PythonBuffer& self) { return self.look().arena_bytes_free(); },
          "Bytes of this rank's arena that no tensor holds; they need not be contiguous.")
      .def(
          "arena", [](const PythonBuffer& self) { return self.look().arena(); },
          "The whole arena, uint8 [arena_bytes_total], for looking at: what is written there ends up in received "
          "tensors.")
      .def_prop_ro("arena_bytes_total", [](const PythonBuffer& self) { return self.look().arena_bytes_total(); })
      .def(
          "local_experts",
          [](const PythonBuffer& self, int num_experts) {
            const Buffer::ExpertRange range = self.look().local_experts(num_experts);
            return std::pair(range.begin, range.count);
          },
          "num_experts"_a, "First global id and number of the experts of this rank.")
      .def_prop_ro(
          "device", [](const PythonBuffer& self) { return name_of(self.device()); }, "\"cpu\" or \"cuda:0\", ...")
      .def_prop_ro(
          "communication_stream",
          [](const PythonBuffer& self) {
            return reinterpret_cast<std::uintptr_t>(self.look().communication_stream().native);
          },
          "Address of the stream that kernels run on; 0 on a CPU. What must come after an operation waits for its "
          "event, not for this stream.")
      .def_prop_ro("last_phase_times", [](const PythonBuffer& self) { return self.look().last_phase_times(); });
}

void bind_masks(nb::class_<PythonBuffer>& buffer) {
  buffer
      .def(
          "mask_rank",
          [](PythonBuffer& self, int rank, bool masked) { self.run([&](Buffer& b) { b.mask_rank(rank, masked); }); },
          "rank"_a, "masked"_a = true,
          "Goes on without a rank, from the next operation on, or lets it in again. Local, but all ranks that go on "
          "must "
          "mask the same ones.")
      .def(
          "masked_ranks", [](PythonBuffer& self) { return self.run([](Buffer& b) { return b.masked_ranks(); }); },
          "Ranks that this one masks, those that were lost included; ascending.")
      .def(
          "clear_masks", [](PythonBuffer& self) { self.run([](Buffer& b) { b.clear_masks(); }); },
          "Lets all masked ranks in again, from the next operation on.");
}

}  // namespace

void bind_buffer(nb::module_& module) {
  bind_phase_times(module);
  nb::enum_<HugePages>(module, "HugePages")
      .value("AUTO", HugePages::kAuto, "where the system gives them")
      .value("NEVER", HugePages::kNever);
  nb::class_<PythonBuffer> buffer(
      module, "Buffer", nb::is_weak_referenceable(),
      "One rank's end of a group that dispatches and combines.\n\n"
      "Collective: the constructor and the operations are called by all ranks in the same order. Threads: calls of "
      "several threads come one after the other. The GIL is released while a call works or waits.");
  buffer.def(
      "__init__", &initialize, "bootstrap"_a, "arena_bytes"_a, nb::kw_only(), "max_experts"_a = 2048,
      "ranks_per_node"_a = 0, "timeout"_a = 100.0, "setup_timeout"_a = 100.0, "huge_pages"_a = HugePages::kAuto,
      "mask_lost_ranks"_a = false, "device"_a = "cpu",
      "arena_bytes: where received rows live; get_arena_size_hint says how many an operation needs.\n"
      "ranks_per_node: 0 means all. timeout: seconds for each half of an operation; setup_timeout: for this call.\n"
      "mask_lost_ranks: a rank that dies, leaves or misses a deadline is masked instead of breaking the buffer.\n"
      "device: where all tensors are: \"cpu\", \"cuda\" (the first), \"cuda:1\", ..., or a torch.device.");
  bind_properties(buffer);
  bind_throughput(buffer);
  bind_low_latency(buffer);
  bind_masks(buffer);
  buffer
      .def(
          "capture",
          [](PythonBuffer& self, const nb::object& stream) {
            return self.run([&, native = to_stream(stream)](Buffer& b) { return b.capture(native); });
          },
          "stream"_a = nb::none(), "The point that a stream has reached; on a CPU a complete event.")
      .def(
          "refuse",
          [](PythonBuffer& self, const std::string& message, bool low_latency, bool worst_case) {
            const Error reason(ErrorCode::kInvalidArgument, message);
            const OperationMode mode = low_latency  ? OperationMode::kLowLatency
                                       : worst_case ? OperationMode::kWorstCase
                                                    : OperationMode::kThroughput;
            self.run([&](Buffer& b) { b.refuse(reason, mode); });
          },
          "message"_a, "low_latency"_a = false, "worst_case"_a = false,
          "Takes the place of this rank's next operation, for a caller that cannot make its arguments: the other "
          "ranks' calls raise the message, and the buffer goes on.")
      .def(
          "destroy", [](PythonBuffer& self) { self.run([](Buffer& b) { b.destroy(); }); },
          "Leaves the group, after the asynchronous operations that are queued. Local and idempotent. Tensors from the "
          "arena stay valid.");
}

}  // namespace crossdock::python
