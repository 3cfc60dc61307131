// Small safetensors files, right and wrong, for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace crossdock::tool {

/// Length, header, data.
inline std::vector<std::byte> make_safetensors(std::string_view header, std::size_t data_bytes) {
  std::vector<std::byte> result(8 + header.size() + data_bytes);
  for (std::size_t i = 0; i < 8; ++i) result[i] = static_cast<std::byte>(header.size() >> (8 * i));
  std::memcpy(result.data() + 8, header.data(), header.size());
  for (std::size_t i = 0; i < data_bytes; ++i) result[8 + header.size() + i] = static_cast<std::byte>(i);
  return result;
}

inline void write_file(const std::filesystem::path& path, const std::vector<std::byte>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));  // NOLINT
}

}  // namespace crossdock::tool
