#include "crossdock/safetensors.hpp"

#include <algorithm>

#include <fmt/ranges.h>

#include "crossdock/safetensors_header.hpp"

namespace crossdock::tool {

namespace {

constexpr std::size_t kLengthBytes = 8;

std::uint64_t read_little_endian(std::span<const std::byte> bytes) {
  std::uint64_t result = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) result |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return result;
}

/// The header's text, its length checked against the limit and the file.
std::string_view header_text(std::span<const std::byte> file, const std::string& source) {
  if (file.size() < kLengthBytes) {
    throw make_error(ErrorCode::kFormat, "{}: {} bytes are too few for a safetensors file", source, file.size());
  }
  const std::uint64_t length = read_little_endian(file);
  if (length > SafetensorsView::kMaxHeaderBytes) {
    throw make_error(ErrorCode::kFormat, "{}: header of {} bytes is longer than the {} that are allowed", source,
                     length, SafetensorsView::kMaxHeaderBytes);
  }
  if (length > file.size() - kLengthBytes) {
    throw make_error(ErrorCode::kFormat, "{}: header of {} bytes passes the end of a file of {} bytes (truncated?)",
                     source, length, file.size());
  }
  const auto text = file.subspan(kLengthBytes, static_cast<std::size_t>(length));
  return {reinterpret_cast<const char*>(text.data()), text.size()};  // NOLINT: bytes as text
}

/// Product of the extents times the element size, or no value if that passes 64 bits.
bool multiply_shape(const SafetensorsHeader::Tensor& tensor, std::uint64_t& bytes) {
  bytes = size_of(tensor.type);
  return std::all_of(tensor.shape.begin(), tensor.shape.end(), [&bytes](std::int64_t extent) {
    return !__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes);
  });
}

void check_size(const SafetensorsHeader::Tensor& tensor, std::size_t data_bytes, const std::string& source) {
  if (tensor.end > data_bytes) {
    throw make_error(ErrorCode::kFormat, "{}: tensor '{}' ends at byte {} of the data, which has {} (truncated?)",
                     source, tensor.name, tensor.end, data_bytes);
  }
  std::uint64_t needed = 0;
  if (!multiply_shape(tensor, needed) || needed != tensor.end - tensor.begin) {
    throw make_error(ErrorCode::kFormat, "{}: tensor '{}' is {} [{}], which does not make its {} bytes", source,
                     tensor.name, name_of(tensor.type), fmt::join(tensor.shape, ", "), tensor.end - tensor.begin);
  }
}

/// The format demands that the tensors cover the data without gap or overlap.
void check_cover(std::vector<SafetensorsHeader::Tensor> tensors, std::size_t data_bytes, const std::string& source) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& left, const auto& right) {
    return std::pair(left.begin, left.end) < std::pair(right.begin, right.end);
  });
  std::uint64_t covered = 0;
  for (const auto& tensor : tensors) {
    if (tensor.begin != covered) {
      throw make_error(
          ErrorCode::kFormat, "{}: tensor '{}' begins at byte {} of the data, {} the tensor that ends at {}", source,
          tensor.name, tensor.begin, tensor.begin < covered ? "which overlaps" : "which leaves a gap after", covered);
    }
    covered = tensor.end;
  }
  if (covered != data_bytes) {
    throw make_error(ErrorCode::kFormat, "{}: the data has {} bytes, but the tensors end at {}", source, data_bytes,
                     covered);
  }
}

}  // namespace

std::size_t size_of(SafetensorsType type) noexcept {
  switch (type) {
    case SafetensorsType::kBool:
    case SafetensorsType::kU8:
    case SafetensorsType::kI8: return 1;
    case SafetensorsType::kI16:
    case SafetensorsType::kF16:
    case SafetensorsType::kBf16: return 2;
    case SafetensorsType::kI32:
    case SafetensorsType::kF32: return 4;
    case SafetensorsType::kI64:
    case SafetensorsType::kF64: return 8;
  }
  return 0;
}

std::string SafetensorsEntry::description() const {
  return fmt::format("{} [{}]", name_of(type), fmt::join(shape, ", "));
}

SafetensorsView SafetensorsView::parse(std::span<const std::byte> file, const std::string& source) {
  const std::string_view text = header_text(file, source);
  SafetensorsHeader header = parse_safetensors_header(text, source);
  const auto data = file.subspan(kLengthBytes + text.size());
  for (const auto& tensor : header.tensors) check_size(tensor, data.size(), source);
  check_cover(header.tensors, data.size(), source);

  SafetensorsView result;
  result.source_ = source;
  result.metadata_ = std::move(header.metadata);
  for (auto& tensor : header.tensors) {
    const auto bytes = data.subspan(tensor.begin, tensor.end - tensor.begin);
    result.entries_.emplace(std::move(tensor.name), SafetensorsEntry{tensor.type, std::move(tensor.shape), bytes});
  }
  return result;
}

const SafetensorsEntry& SafetensorsView::at(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found != entries_.end()) return found->second;
  std::vector<std::string_view> names;
  for (const auto& entry : entries_) names.emplace_back(entry.first);
  throw make_error(ErrorCode::kFormat, "{}: there is no tensor '{}', only: {}", source_, name, fmt::join(names, ", "));
}

std::span<const std::byte> SafetensorsView::checked_bytes(const std::string& name, SafetensorsType type,
                                                          std::span<const std::int64_t> shape,
                                                          std::size_t element_bytes, std::size_t alignment) const {
  const SafetensorsEntry& entry = at(name);
  const bool same_shape =
      std::equal(entry.shape.begin(), entry.shape.end(), shape.begin(), shape.end(),
                 [](std::int64_t extent, std::int64_t wanted) { return wanted < 0 || extent == wanted; });
  if (entry.type != type || !same_shape || element_bytes != size_of(type)) {
    throw make_error(ErrorCode::kFormat, "{}: tensor '{}' is {}, but {} [{}] is needed (-1: any)", source_, name,
                     entry.description(), name_of(type), fmt::join(shape, ", "));
  }
  if (reinterpret_cast<std::uintptr_t>(entry.bytes.data()) % alignment != 0) {  // NOLINT: only the number is used
    throw make_error(ErrorCode::kFormat, "{}: data of tensor '{}' is not aligned to {} bytes", source_, name,
                     alignment);
  }
  return entry.bytes;
}

}  // namespace crossdock::tool
