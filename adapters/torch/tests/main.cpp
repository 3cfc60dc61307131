// Runs the tests on the CPU, or on a CUDA device: torch_adapter_test --device=cuda:0
#include <gtest/gtest.h>

#include <exception>
#include <string_view>

#include "ranks.hpp"

namespace {

/// Skips all tests, saying why, where the device does not work.
class DeviceWorks : public ::testing::Environment {
 public:
  void SetUp() override {
    try {
      static_cast<void>(at::zeros({1}, at::TensorOptions().device(crossdock::torch::testing::test_device())).sum());
    } catch (const std::exception& error) {
      GTEST_SKIP() << "there is no " << crossdock::torch::testing::test_device() << ": " << error.what();
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  constexpr std::string_view kOption = "--device=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(kOption)) {
      crossdock::torch::testing::set_test_device(at::Device(std::string(argument.substr(kOption.size()))));
    }
  }
  ::testing::AddGlobalTestEnvironment(new DeviceWorks);  // GoogleTest deletes it
  return RUN_ALL_TESTS();
}
