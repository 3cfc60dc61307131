// Ranks as threads of the test.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <crossdock/bootstrap.hpp>

namespace crossdock::bootstrap_test {

using Group = std::vector<std::shared_ptr<Bootstrap>>;

/// Runs `body(rank)` in one thread per rank and waits for all. Rethrows the first exception.
void run_ranks(int size, const std::function<void(int rank)>& body);

[[nodiscard]] Bytes to_bytes(const std::string& text);

}  // namespace crossdock::bootstrap_test
