// What every implementation of Bootstrap must do. An implementation joins with INSTANTIATE_TEST_SUITE_P and one
// MakeGroup.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "bootstrap/ranks.hpp"

namespace crossdock::bootstrap_test {

struct Implementation {
  std::string name;
  /// A connected group of `size` ranks; element i is for rank i.
  std::function<Group(int size)> make_group;
};

class BootstrapConformance : public testing::TestWithParam<Implementation> {};
/// For implementations that keep deadlines and notice lost ranks themselves.
class WatchfulBootstrapConformance : public testing::TestWithParam<Implementation> {};

}  // namespace crossdock::bootstrap_test
