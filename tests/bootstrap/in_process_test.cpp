#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <crossdock/error.hpp>

#include "bootstrap/bootstrap_conformance.hpp"

namespace crossdock::bootstrap_test {

namespace {

const auto kImplementations = testing::Values(Implementation{"Threads", &make_in_process_bootstraps});

std::string name_of(const testing::TestParamInfo<Implementation>& instance) { return instance.param.name; }

}  // namespace

INSTANTIATE_TEST_SUITE_P(InProcess, BootstrapConformance, kImplementations, &name_of);
INSTANTIATE_TEST_SUITE_P(InProcess, WatchfulBootstrapConformance, kImplementations, &name_of);

TEST(InProcessBootstrap, RefusesImpossibleSizes) {
  for (const int size : {0, -1, 65'537}) {
    try {
      static_cast<void>(make_in_process_bootstraps(size));
      FAIL() << "no error for " << size;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), testing::HasSubstr("a group of " + std::to_string(size) + " ranks; 1 to 65536"));
    }
  }
}

}  // namespace crossdock::bootstrap_test
