#include <crossdock/types.hpp>

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace crossdock {
namespace {

TEST(DataType, HasTheSizesOfItsElements) {
  EXPECT_EQ(size_of(DataType::kBool), 1U);
  EXPECT_EQ(size_of(DataType::kUint8), 1U);
  EXPECT_EQ(size_of(DataType::kInt8), 1U);
  EXPECT_EQ(size_of(DataType::kFloat8E4m3), 1U);
  EXPECT_EQ(size_of(DataType::kFloat16), 2U);
  EXPECT_EQ(size_of(DataType::kBfloat16), 2U);
  EXPECT_EQ(size_of(DataType::kInt32), 4U);
  EXPECT_EQ(size_of(DataType::kFloat32), 4U);
  EXPECT_EQ(size_of(DataType::kInt64), 8U);
}

TEST(DataType, HasNamesOfItsOwn) {
  std::set<std::string> names;
  for (int type = 0; type <= static_cast<int>(DataType::kFloat32); ++type) {
    names.emplace(name_of(static_cast<DataType>(type)));
  }
  EXPECT_EQ(names.size(), 9U);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(name_of(DataType::kBfloat16), "bfloat16");
  EXPECT_EQ(name_of(DataType::kFloat8E4m3), "float8_e4m3");
}

TEST(Device, IsTheHostUnlessToldOtherwise) {
  EXPECT_EQ(Device{}, (Device{DeviceType::kHost, 0}));
  EXPECT_NE(Device{}, (Device{DeviceType::kCuda, 0}));
  EXPECT_NE((Device{DeviceType::kCuda, 1}), (Device{DeviceType::kCuda, 0}));
}

}  // namespace
}  // namespace crossdock
