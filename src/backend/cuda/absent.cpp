// What the door leads to in a build without CUDA.
#include "backend/cuda/factory.hpp"
#include "backend/cuda/timed_graph.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

[[noreturn]] void refuse() {
  throw make_error(ErrorCode::kUnsupported, "this build has no backend for CUDA devices; DeviceType::kHost is allowed");
}

}  // namespace

Parts make_parts(Bootstrap& /*bootstrap*/, const BufferOptions& /*options*/) { refuse(); }
Event capture_stream(const Stream& /*stream*/) { refuse(); }
std::vector<std::string> describe_devices() { refuse(); }
Device use_device_of(int /*rank*/) { refuse(); }
Tensor copy_to_device(const Tensor& /*tensor*/, Device /*device*/) { refuse(); }
Tensor copy_to_host(const Tensor& /*tensor*/) { refuse(); }

struct TimedGraph::Parts {};
TimedGraph::TimedGraph(Device /*device*/) { refuse(); }
TimedGraph::~TimedGraph() = default;
Stream TimedGraph::stream() const noexcept { return {}; }
void TimedGraph::capture(const std::function<void()>& /*body*/) { refuse(); }
void TimedGraph::mark() { refuse(); }
std::vector<double> TimedGraph::launch() { refuse(); }

void copy_on_device(const Tensor& /*from*/, const Tensor& /*to*/) { refuse(); }

}  // namespace crossdock::cuda
