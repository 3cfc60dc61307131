// Element types by the names and numbers that DLPack and numpy have for them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include <nanobind/ndarray.h>

#include <crossdock/types.hpp>

namespace crossdock::python {

struct DataTypeEntry {
  DataType dtype;
  std::string_view numpy_name;  ///< numpy's or ml_dtypes' `dtype.name`
  nanobind::dlpack::dtype_code code;
  std::uint8_t bits;
};

inline constexpr std::array<DataTypeEntry, 9> kDataTypes{{
    {DataType::kBool, "bool", nanobind::dlpack::dtype_code::Bool, 8},
    {DataType::kUint8, "uint8", nanobind::dlpack::dtype_code::UInt, 8},
    {DataType::kInt8, "int8", nanobind::dlpack::dtype_code::Int, 8},
    {DataType::kInt32, "int32", nanobind::dlpack::dtype_code::Int, 32},
    {DataType::kInt64, "int64", nanobind::dlpack::dtype_code::Int, 64},
    {DataType::kFloat8E4m3, "float8_e4m3fn", nanobind::dlpack::dtype_code::Float8_E4M3FN, 8},
    {DataType::kFloat16, "float16", nanobind::dlpack::dtype_code::Float, 16},
    {DataType::kBfloat16, "bfloat16", nanobind::dlpack::dtype_code::Bfloat, 16},
    {DataType::kFloat32, "float32", nanobind::dlpack::dtype_code::Float, 32},
}};

[[nodiscard]] inline const DataTypeEntry& entry_of(DataType dtype) {
  return kDataTypes[static_cast<std::size_t>(dtype)];
}

[[nodiscard]] inline nanobind::dlpack::dtype dlpack_of(DataType dtype) {
  const DataTypeEntry& entry = entry_of(dtype);
  return {static_cast<std::uint8_t>(entry.code), entry.bits, 1};
}

/// The unsigned integer of the same size, for a framework that cannot take the type itself.
[[nodiscard]] inline nanobind::dlpack::dtype dlpack_bits_of(DataType dtype) {
  return {static_cast<std::uint8_t>(nanobind::dlpack::dtype_code::UInt), entry_of(dtype).bits, 1};
}

[[nodiscard]] inline std::optional<DataType> data_type_of(nanobind::dlpack::dtype dtype) {
  for (const DataTypeEntry& entry : kDataTypes) {
    if (dlpack_of(entry.dtype) == dtype) return entry.dtype;
  }
  return std::nullopt;
}

[[nodiscard]] inline std::optional<DataType> data_type_of(std::string_view numpy_name) {
  for (const DataTypeEntry& entry : kDataTypes) {
    if (entry.numpy_name == numpy_name) return entry.dtype;
  }
  return std::nullopt;
}

/// Numpy has neither these types nor DLPack for them; ml_dtypes gives it scalar types.
[[nodiscard]] inline bool needs_ml_dtypes(DataType dtype) {
  return dtype == DataType::kBfloat16 || dtype == DataType::kFloat8E4m3;
}

static_assert(kDataTypes[static_cast<std::size_t>(DataType::kFloat8E4m3)].dtype == DataType::kFloat8E4m3);
static_assert(kDataTypes[static_cast<std::size_t>(DataType::kFloat32)].dtype == DataType::kFloat32);

}  // namespace crossdock::python
