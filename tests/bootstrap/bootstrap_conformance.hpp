// What every implementation of Bootstrap must do. An implementation joins with INSTANTIATE_TEST_SUITE_P and one
// MakeGroup.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <crossdock/bootstrap.hpp>

namespace crossdock::bootstrap_test {

using Group = std::vector<std::shared_ptr<Bootstrap>>;

struct Implementation {
  std::string name;
  /// A connected group of `size` ranks; element i is for rank i.
  std::function<Group(int size)> make_group;
  /// Whether the implementation itself keeps deadlines and notices lost peers.
  bool watches = true;
};

class BootstrapConformance : public testing::TestWithParam<Implementation> {};

/// Runs `body(rank)` in one thread per rank and waits for all. Rethrows the first exception.
void run_ranks(int size, const std::function<void(int rank)>& body);

[[nodiscard]] Bytes to_bytes(const std::string& text);

}  // namespace crossdock::bootstrap_test
