#include "crossdock/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/safetensors_builder.hpp"

namespace crossdock::tool {
namespace {

using testing::HasSubstr;

// padded() keeps the data aligned to 8 bytes.
constexpr std::string_view kGood =
    R"({"__metadata__":{"who":"test"},"a":{"dtype":"I32","shape":[2,3],"data_offsets":[8,32]},)"
    R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]},"none":{"dtype":"F32","shape":[0,5],"data_offsets":[8,8]}})";
constexpr std::size_t kGoodBytes = 32;

std::string padded(std::string_view header) {
  std::string result(header);
  result.resize((result.size() + 7) / 8 * 8, ' ');
  return result;
}

/// The message with which the file is refused; fails the test if it is not refused with kFormat.
std::string refusal(const std::vector<std::byte>& file) {
  try {
    (void)SafetensorsView::parse(file, "file.safetensors");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFormat);
    EXPECT_THAT(error.what(), HasSubstr("file.safetensors"));
    return error.what();
  }
  ADD_FAILURE() << "not refused";
  return {};
}

TEST(Safetensors, GivesTypedViews) {
  const auto file = make_safetensors(padded(kGood), kGoodBytes);
  const auto view = SafetensorsView::parse(file, "file");
  EXPECT_EQ(view.entries().size(), 3U);
  EXPECT_EQ(view.metadata().at("who"), "test");
  EXPECT_EQ(view.at("a").description(), "I32 [2, 3]");
  const auto a = view.values<std::int32_t>("a", SafetensorsType::kI32, {2, -1});
  ASSERT_EQ(a.size(), 6U);
  EXPECT_EQ(a[0], 0x0B0A0908);
  EXPECT_EQ(view.values<std::uint16_t>("b", SafetensorsType::kBf16, {4})[3], 0x0706);
  EXPECT_TRUE(view.values<float>("none", SafetensorsType::kF32, {0, 5}).empty());
}

TEST(Safetensors, RefusesOtherTypeShapeNameOrAlignment) {
  const auto file = make_safetensors(padded(kGood), kGoodBytes);
  const auto view = SafetensorsView::parse(file, "file");
  EXPECT_THROW((void)view.values<std::int32_t>("a", SafetensorsType::kI32, {2, 4}), Error);
  EXPECT_THROW((void)view.values<std::int32_t>("a", SafetensorsType::kI32, {2}), Error);
  EXPECT_THROW((void)view.values<float>("a", SafetensorsType::kF32, {2, 3}), Error);
  EXPECT_THROW((void)view.values<std::int64_t>("a", SafetensorsType::kI32, {2, 3}), Error);
  EXPECT_THROW((void)view.at("c"), Error);
  const auto odd = make_safetensors(padded(kGood) + " ", kGoodBytes);
  const auto odd_view = SafetensorsView::parse(odd, "file");
  EXPECT_THROW((void)odd_view.values<std::int32_t>("a", SafetensorsType::kI32, {2, 3}), Error);
}

TEST(Safetensors, RefusesEveryTruncation) {
  const auto file = make_safetensors(padded(kGood), kGoodBytes);
  for (std::size_t length = 0; length < file.size(); ++length) {
    (void)refusal({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length)});
  }
}

TEST(Safetensors, RefusesTrailingBytes) {
  EXPECT_THAT(refusal(make_safetensors(kGood, kGoodBytes + 1)), HasSubstr("the data has 33 bytes"));
}

TEST(Safetensors, RefusesHugeHeaderLengths) {
  auto file = make_safetensors(kGood, kGoodBytes);
  file[7] = std::byte{0x7F};
  EXPECT_THAT(refusal(file), HasSubstr("longer than"));
  std::fill(file.begin(), file.begin() + 8, std::byte{0xFF});
  EXPECT_THAT(refusal(file), HasSubstr("longer than"));
}

TEST(Safetensors, SurvivesEverySingleChangedByte) {
  const auto good = make_safetensors(kGood, kGoodBytes);
  for (std::size_t i = 0; i < 8 + kGood.size(); ++i) {
    for (const unsigned value : {0U, 0x22U, 0x2DU, 0x39U, 0x7BU, 0xFFU}) {
      auto file = good;
      file[i] = static_cast<std::byte>(value);
      try {
        (void)SafetensorsView::parse(file, "file");
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kFormat);
      }
    }
  }
}

struct Malformation {
  std::string name;
  std::string header;
  std::size_t data_bytes;
  std::string message;
};

class MalformedHeader : public testing::TestWithParam<Malformation> {};

TEST_P(MalformedHeader, IsRefusedWithAReason) {
  EXPECT_THAT(refusal(make_safetensors(GetParam().header, GetParam().data_bytes)), HasSubstr(GetParam().message));
}

std::string one_tensor(const std::string& fields) { return R"({"t":{)" + fields + "}}"; }

INSTANTIATE_TEST_SUITE_P(
    Safetensors, MalformedHeader,
    testing::Values(
        Malformation{"Empty", "", 0, "not JSON"},  //
        Malformation{"NoJson", "{\"t\":", 0, "not JSON"}, Malformation{"InvalidText", "{\"\xFF\":1}", 0, "not JSON"},
        Malformation{"Array", "[1]", 0, "array, not an object"},
        Malformation{"Number", "12", 0, "number, not an object"},
        Malformation{"Null", "null", 0, "null, not an object"},
        Malformation{"HugeNumber", R"({"t":1e999})", 0, "does not fit"},
        Malformation{"DeepNesting", std::string(100'000, '['), 0, "nested too deeply"},
        Malformation{"DuplicateTensor",
                     R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                     R"("t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                     2, R"(key "t" twice)"},
        Malformation{"DuplicateField", one_tensor(R"("dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1])"), 1,
                     R"(key "dtype" twice)"},
        Malformation{"TensorIsNumber", R"({"t":5})", 0, R"(tensor "t" is not described by an object)"},
        Malformation{"ControlCharacter", R"({"t\u001b[2J":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
                     "control character"},
        Malformation{"UnknownField", one_tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1)"), 1,
                     "unknown field"},
        Malformation{"MissingType", one_tensor(R"("shape":[1],"data_offsets":[0,1])"), 1, "no dtype"},
        Malformation{"UnknownType", one_tensor(R"("dtype":"F12","shape":[1],"data_offsets":[0,1])"), 1,
                     R"(unknown dtype "F12")"},
        Malformation{"MissingShape", one_tensor(R"("dtype":"U8","data_offsets":[0,1])"), 1, "no shape"},
        Malformation{"NegativeExtent", one_tensor(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), 1, "shape"},
        Malformation{"FractionalExtent", one_tensor(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"), 1, "shape"},
        Malformation{"ManyDimensions",
                     one_tensor(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"), 1,
                     "17 dimensions"},
        Malformation{"WrongProduct", one_tensor(R"("dtype":"I16","shape":[3],"data_offsets":[0,4])"), 4,
                     "does not make its 4 bytes"},
        Malformation{"ProductOverflows",
                     one_tensor(R"("dtype":"I64","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0,
                     "does not make its 0 bytes"},
        Malformation{"OneOffset", one_tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0])"), 1, "1 data_offsets"},
        Malformation{"Backwards", one_tensor(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), 1,
                     "before it begins"},
        Malformation{"OutOfRange", one_tensor(R"("dtype":"U8","shape":[9],"data_offsets":[0,9])"), 8,
                     "ends at byte 9 of the data, which has 8"},
        Malformation{"OffsetTooLarge",
                     one_tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615])"), 1,
                     "data_offsets"},
        Malformation{"Overlap",
                     R"({"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                     R"("u":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                     3, "overlaps"},
        Malformation{"Gap",
                     R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                     R"("u":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                     3, "gap"},
        Malformation{"MetadataIsNumber", R"({"__metadata__":1})", 0, "__metadata__ is not an object"},
        Malformation{"MetadataValue", R"({"__metadata__":{"a":1}})", 0, "is not a string"}),
    [](const auto& test) { return test.param.name; });

TEST(SafetensorsFile, ReadsAFileAndNamesAMissingOne) {
  const auto path = std::filesystem::path(testing::TempDir()) / "crossdock_safetensors_test.safetensors";
  write_file(path, make_safetensors(padded(kGood), kGoodBytes));
  EXPECT_EQ(SafetensorsFile(path).view().entries().size(), 3U);
  std::filesystem::resize_file(path, 0);
  EXPECT_THROW(SafetensorsFile{path}, Error);
  std::filesystem::remove(path);
  try {
    const SafetensorsFile file(path);
    FAIL() << "opened a file that is not there";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), HasSubstr(path.string()));
  }
  EXPECT_THROW(SafetensorsFile{testing::TempDir()}, Error);
}

}  // namespace
}  // namespace crossdock::tool
