// Reading safetensors files: eight bytes of header length (little-endian), a JSON header, raw row-major data.
// The format: https://github.com/huggingface/safetensors#format
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crossdock/tensor.hpp>

#include "base/error.hpp"
#include "crossdock/mapped_file.hpp"

namespace crossdock::tool {

enum class SafetensorsType : std::uint8_t { kBool, kU8, kI8, kI16, kI32, kI64, kF16, kBf16, kF32, kF64 };

/// As written in files: "BF16", "I64", ...
[[nodiscard]] std::string_view name_of(SafetensorsType type) noexcept;
[[nodiscard]] std::size_t size_of(SafetensorsType type) noexcept;

/// One tensor, a view into the file's bytes. The number of bytes equals the product of the shape times size_of(type).
struct SafetensorsEntry {
  SafetensorsType type = SafetensorsType::kU8;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  /// "BF16 [8, 256, 256]", for messages.
  [[nodiscard]] std::string description() const;
};

/// A validated file in memory that somebody else keeps alive.
class SafetensorsView {
 public:
  /// Headers longer than this are refused (the limit of the format's own reader).
  static constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

  /// Checks everything before it is used. Throws kFormat, naming `source` and the tensor, for: fewer than 8 bytes; a
  /// header that is too long or passes the end; JSON that is malformed, no object, or has a key twice; an unknown or
  /// missing field; an unknown type; a shape that is negative, overflows or does not fit the number of bytes; offsets
  /// that pass the end, overlap or leave a gap.
  static SafetensorsView parse(std::span<const std::byte> file, const std::string& source);

  [[nodiscard]] const std::map<std::string, SafetensorsEntry>& entries() const noexcept { return entries_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  [[nodiscard]] const std::string& source() const noexcept { return source_; }

  /// Throws kFormat that lists the tensors there are, if there is none of that name.
  [[nodiscard]] const SafetensorsEntry& at(const std::string& name) const;

  /// The elements of a tensor of that type and shape; an extent of -1 accepts any. T has the size of the type.
  /// Throws kFormat if there is no such tensor, type or shape differ, or the data is not aligned for T.
  template <typename T>
  [[nodiscard]] std::span<const T> values(const std::string& name, SafetensorsType type,
                                          std::span<const std::int64_t> shape) const {
    const auto bytes = checked_bytes(name, type, shape, sizeof(T), alignof(T));
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};  // NOLINT: alignment was checked
  }
  template <typename T>
  [[nodiscard]] std::span<const T> values(const std::string& name, SafetensorsType type,
                                          std::initializer_list<std::int64_t> shape) const {
    return values<T>(name, type, std::span<const std::int64_t>(shape.begin(), shape.size()));
  }

 private:
  [[nodiscard]] std::span<const std::byte> checked_bytes(const std::string& name, SafetensorsType type,
                                                         std::span<const std::int64_t> shape, std::size_t element_bytes,
                                                         std::size_t alignment) const;

  std::string source_;
  std::map<std::string, SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// A file and its view.
class SafetensorsFile {
 public:
  /// Throws kSystem if the file cannot be mapped, kFormat if it is malformed.
  explicit SafetensorsFile(const std::filesystem::path& path)
      : file_(path), view_(SafetensorsView::parse(file_.bytes(), path.string())) {}

  [[nodiscard]] const SafetensorsView& view() const noexcept { return view_; }

 private:
  MappedFile file_;
  SafetensorsView view_;
};

}  // namespace crossdock::tool
