// The JSON header of a safetensors file, as plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "crossdock/safetensors.hpp"

namespace crossdock::tool {

struct SafetensorsHeader {
  struct Tensor {
    std::string name;
    SafetensorsType type = SafetensorsType::kU8;
    std::vector<std::int64_t> shape;  ///< extents >= 0
    std::uint64_t begin = 0;          ///< offsets into the data, begin <= end
    std::uint64_t end = 0;
  };
  std::vector<Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Throws kFormat, naming `source`, for malformed JSON, a duplicate key, a wrong field or an unknown type.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& source);

}  // namespace crossdock::tool
