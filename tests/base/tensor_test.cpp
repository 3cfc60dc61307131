#include <crossdock/tensor.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include <crossdock/error.hpp>

namespace crossdock {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string message_of(const auto& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(Tensor, IsUndefinedByDefault) {
  const Tensor tensor;
  EXPECT_FALSE(tensor.defined());
  EXPECT_EQ(tensor.dimensions(), 0);
  EXPECT_EQ(tensor.num_elements(), 0);
  EXPECT_EQ(tensor.num_bytes(), 0U);
  EXPECT_EQ(tensor.data(), nullptr);
  EXPECT_EQ(tensor.owner(), nullptr);
}

TEST(Tensor, BorrowsRowMajorMemory) {
  std::vector<float> memory(24);
  const Tensor tensor = Tensor::borrow(memory.data(), DataType::kFloat32, {2, 3, 4});
  EXPECT_TRUE(tensor.defined());
  EXPECT_THAT(tensor.shape(), ElementsAre(2, 3, 4));
  EXPECT_EQ(tensor.stride(0), 12);
  EXPECT_EQ(tensor.stride(1), 4);
  EXPECT_EQ(tensor.stride(2), 1);
  EXPECT_EQ(tensor.num_elements(), 24);
  EXPECT_EQ(tensor.num_bytes(), 96U);
  EXPECT_TRUE(tensor.is_contiguous());
  EXPECT_EQ(tensor.data_as<float>(), memory.data());
  EXPECT_EQ(tensor.owner(), nullptr);
  EXPECT_EQ(tensor.description(), "float32 [2, 3, 4]");
}

TEST(Tensor, BorrowsMemoryThatIsOnlyRead) {
  const std::vector<std::int32_t> memory{1, 2, 3};
  const Tensor tensor = Tensor::borrow(memory.data(), DataType::kInt32, {3});
  EXPECT_EQ(tensor.data_as<const std::int32_t>()[2], 3);
}

TEST(Tensor, KeepsItsOwnerAlive) {
  auto memory = std::make_shared<std::vector<std::uint8_t>>(6);
  const std::weak_ptr<std::vector<std::uint8_t>> watch = memory;
  const std::vector<std::int64_t> shape{2, 3};
  Tensor tensor = Tensor::own(memory, memory->data(), DataType::kUint8, shape);
  Tensor copy = tensor.first(1);
  memory.reset();
  tensor = Tensor();
  EXPECT_FALSE(watch.expired());
  copy = Tensor();
  EXPECT_TRUE(watch.expired());
}

TEST(Tensor, MayBeEmptyWithoutMemory) {
  const Tensor tensor = Tensor::borrow(static_cast<void*>(nullptr), DataType::kBfloat16, {0, 7168});
  EXPECT_TRUE(tensor.defined());
  EXPECT_EQ(tensor.num_elements(), 0);
  EXPECT_EQ(tensor.size(1), 7168);
  EXPECT_EQ(tensor.stride(0), 7168);
  EXPECT_TRUE(tensor.is_contiguous());
}

TEST(Tensor, TakesStrides) {
  std::vector<float> memory(12);
  const Tensor columns = Tensor::borrow(memory.data(), DataType::kFloat32, {4, 3}).with_strides({1, 4});
  EXPECT_EQ(columns.stride(0), 1);
  EXPECT_EQ(columns.stride(1), 4);
  EXPECT_FALSE(columns.is_contiguous());
  EXPECT_EQ(columns.num_bytes(), 48U);
  // The stride of a dimension with one entry does not matter.
  EXPECT_TRUE(Tensor::borrow(memory.data(), DataType::kFloat32, {1, 3}).with_strides({99, 1}).is_contiguous());
}

TEST(Tensor, NarrowsToTheFirstEntries) {
  std::vector<float> memory(12);
  const Tensor tensor = Tensor::borrow(memory.data(), DataType::kFloat32, {4, 3});
  EXPECT_THAT(tensor.first(2).shape(), ElementsAre(2, 3));
  EXPECT_EQ(tensor.first(0).num_elements(), 0);
  EXPECT_EQ(tensor.first(4).data(), memory.data());
}

TEST(Tensor, RefusesWhatCannotBe) {
  float value = 0;
  EXPECT_THAT(message_of([&] {
                (void)Tensor::borrow(&value, DataType::kFloat32, {1, -1});
              }),
              HasSubstr("extent -1 of a tensor's dimension 1"));
  EXPECT_THAT(message_of([&] {
                (void)Tensor::borrow(&value, DataType::kFloat32, {1, 1, 1, 1, 1});
              }),
              HasSubstr("1 to 4 dimensions, not 5"));
  EXPECT_THAT(message_of([&] { (void)Tensor::borrow(&value, DataType::kFloat32, {}); }), HasSubstr("not 0"));
  EXPECT_THAT(message_of([] {
                (void)Tensor::borrow(static_cast<void*>(nullptr), DataType::kFloat32, {2, 2});
              }),
              HasSubstr("null data for a float32 [2, 2]"));
  const Tensor one = Tensor::borrow(&value, DataType::kFloat32, {1});
  EXPECT_THAT(message_of([&] { (void)one.with_strides({1, 1}); }), HasSubstr("2 strides for a tensor float32 [1]"));
  EXPECT_THAT(message_of([&] { (void)one.with_strides({-1}); }), HasSubstr("stride -1"));
  EXPECT_THAT(message_of([&] { (void)one.first(2); }), HasSubstr("the first 2 entries of a tensor float32 [1]"));
  EXPECT_THAT(message_of([&] { (void)one.first(-1); }), HasSubstr("the first -1"));
  EXPECT_THAT(message_of([] { (void)Tensor().first(0); }), HasSubstr("the first 0"));
}

}  // namespace
}  // namespace crossdock
