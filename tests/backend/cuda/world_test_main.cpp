#include "backend/cuda/world_test_main.hpp"

#include <gtest/gtest.h>

#include <memory>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "core/property_arguments.hpp"
#include "core/world_run.hpp"

namespace crossdock::testing {

namespace {

class CudaWorlds : public ::testing::Test {
 public:
  CudaWorlds(int num_ranks, std::vector<std::uint64_t> seeds, RunWorlds run, std::string why_not)
      : group_{num_ranks, std::move(seeds), buffer_options_for(num_ranks),
               [](int rank) { return std::make_unique<CudaStreamPlace>(rank); }},
        run_(run),
        why_not_(std::move(why_not)) {}

  void TestBody() override {
    if (!why_not_.empty()) GTEST_SKIP() << why_not_;
    for (const std::string& failure : run_(group_)) ADD_FAILURE() << failure;
  }

 private:
  WorldGroup group_;
  RunWorlds run_;
  std::string why_not_;
};

}  // namespace

int run_cuda_worlds(int argc, char** argv, const char* suite, RunWorlds run) {
  ::testing::InitGoogleTest(&argc, argv);
  constexpr std::uint64_t kWorlds = 200;
  const std::string why_not = why_no_cuda_device();
  for (const auto& [num_ranks, seeds] : group_by_ranks(parse_property_arguments(argc, argv, kWorlds))) {
    ::testing::RegisterTest(suite, ("ranks_" + std::to_string(num_ranks)).c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [ranks = num_ranks, group = seeds, run, why_not]() -> CudaWorlds* {
                              return new CudaWorlds(ranks, group, run, why_not);  // GoogleTest deletes it
                            });
  }
  return RUN_ALL_TESTS();
}

}  // namespace crossdock::testing
