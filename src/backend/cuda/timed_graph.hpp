// For tools: operations that are captured into a CUDA graph, launched, and timed by the device.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <crossdock/types.hpp>

namespace crossdock::cuda {

class TimedGraph {
 public:
  /// Throws kUnsupported if there is no such device.
  explicit TimedGraph(Device device);
  TimedGraph(const TimedGraph&) = delete;
  TimedGraph& operator=(const TimedGraph&) = delete;
  ~TimedGraph();

  [[nodiscard]] Stream stream() const noexcept;
  /// `body` queues operations on stream(), and marks between them.
  void capture(const std::function<void()>& body);
  void mark();
  /// Runs what was captured and returns the microseconds from each mark to the next.
  [[nodiscard]] std::vector<double> launch();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace crossdock::cuda
