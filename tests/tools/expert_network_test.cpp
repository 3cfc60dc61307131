#include "crossdock/expert_network.hpp"

#include <cstring>

#include <gtest/gtest.h>

#include "crossdock/data_directory.hpp"
#include "crossdock/demo_report.hpp"

namespace crossdock::tool {
namespace {

TEST(MoeLayer, HasTheShapesOfItsDescription) {
  const auto layer = load_moe_layer(find_data_file("moe_layer", ""));
  EXPECT_EQ(layer.num_tokens, 2048);
  EXPECT_EQ(layer.hidden, 256);
  EXPECT_EQ(layer.inner, 64);
  EXPECT_EQ(layer.num_experts, 64);
  EXPECT_EQ(layer.num_topk, 8);
  EXPECT_THROW((void)load_moe_layer(find_data_file("trace_e64_k8", "")), Error);
}

TEST(ExpertNetwork, AllExpertsOnOneRankGiveTheRecordedOutput) {
  const auto layer = load_moe_layer(find_data_file("moe_layer", ""));
  const ExpertNetwork network(layer, {0, layer.num_experts});
  const void* x = layer.x.data();
  const void* ids = layer.topk_idx.data();
  const void* weights = layer.topk_weights.data();
  std::vector<float> y(layer.y.size());
  network.run(Tensor::borrow(x, DataType::kBfloat16, {layer.num_tokens, layer.hidden}),
              Tensor::borrow(ids, DataType::kInt64, {layer.num_tokens, layer.num_topk}),
              Tensor::borrow(weights, DataType::kFloat32, {layer.num_tokens, layer.num_topk}), y);
  const OutputError error = compare_outputs(y, layer.y);
  const OutputError allowed = allowed_error(DataType::kFloat32);
  EXPECT_LT(error.largest, allowed.largest);
  EXPECT_LT(error.mean, allowed.mean);
}

TEST(CompareOutputs, MeasuresRelativeToTheRecordedSize) {
  const std::vector<float> recorded{4, -2, 2, 0};
  const std::vector<float> output{4, -2, 2.5, 0.5};
  EXPECT_DOUBLE_EQ(compare_outputs(output, recorded).largest, 0.125);
  EXPECT_DOUBLE_EQ(compare_outputs(output, recorded).mean, 0.125);
  EXPECT_EQ(compare_outputs(recorded, recorded).largest, 0);
  const std::vector<float> broken{4, NAN, 2, 0};
  EXPECT_TRUE(std::isinf(compare_outputs(broken, recorded).largest));
}

}  // namespace
}  // namespace crossdock::tool
