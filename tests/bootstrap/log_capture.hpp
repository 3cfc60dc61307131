// What the library logs while this lives.
#pragma once

#include <memory>
#include <sstream>
#include <string>

#include <spdlog/sinks/ostream_sink.h>

#include "base/logging.hpp"

namespace crossdock::bootstrap_test {

/// Made and destroyed while no other thread logs.
class LogCapture {
 public:
  LogCapture() : sink_(std::make_shared<spdlog::sinks::ostream_sink_mt>(stream_)), previous_(logger().sinks()) {
    logger().sinks() = {sink_};
  }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  ~LogCapture() { logger().sinks() = previous_; }

  /// Read once no other thread logs.
  [[nodiscard]] std::string text() const { return stream_.str(); }

 private:
  std::ostringstream stream_;
  spdlog::sink_ptr sink_;
  std::vector<spdlog::sink_ptr> previous_;
};

}  // namespace crossdock::bootstrap_test
