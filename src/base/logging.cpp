#include "base/logging.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <crossdock/environment.hpp>

namespace crossdock {

namespace {

std::shared_ptr<spdlog::logger> make_logger() {
  auto result = std::make_shared<spdlog::logger>("crossdock", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  result->set_pattern("[crossdock %H:%M:%S.%e %P %l] %v");
  const auto level = read_environment().log_level;
  result->set_level(level ? spdlog::level::from_str(*level) : spdlog::level::warn);
  result->flush_on(spdlog::level::warn);
  return result;
}

}  // namespace

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = make_logger();
  return *instance;
}

}  // namespace crossdock
