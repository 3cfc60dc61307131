#include <crossdock/types.hpp>

namespace crossdock {

std::size_t size_of(DataType dtype) noexcept {
  switch (dtype) {
    case DataType::kBool:
    case DataType::kUint8:
    case DataType::kInt8:
    case DataType::kFloat8E4m3: return 1;
    case DataType::kFloat16:
    case DataType::kBfloat16: return 2;
    case DataType::kInt32:
    case DataType::kFloat32: return 4;
    case DataType::kInt64: return 8;
  }
  return 0;
}

std::string_view name_of(DataType dtype) noexcept {
  switch (dtype) {
    case DataType::kBool: return "bool";
    case DataType::kUint8: return "uint8";
    case DataType::kInt8: return "int8";
    case DataType::kInt32: return "int32";
    case DataType::kInt64: return "int64";
    case DataType::kFloat8E4m3: return "float8_e4m3";
    case DataType::kFloat16: return "float16";
    case DataType::kBfloat16: return "bfloat16";
    case DataType::kFloat32: return "float32";
  }
  return "unknown";
}

}  // namespace crossdock
