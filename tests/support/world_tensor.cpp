#include "support/world_tensor.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <memory>

namespace crossdock::testing {

namespace {

struct Strides {
  std::int64_t row = 0;
  std::int64_t column = 1;
  std::int64_t offset = 0;  ///< of the first element
};

Strides strides_for(RowPlacement placement, std::int64_t num_rows, std::int64_t columns) {
  constexpr std::int64_t kGap = 3;
  switch (placement) {
    case RowPlacement::kPacked: return {columns, 1, 0};
    case RowPlacement::kPadded: return {columns + kGap, 1, 1};
    case RowPlacement::kTransposed: return {1, num_rows, 0};
  }
  return {};
}

}  // namespace

Tensor make_rows(const MatrixShape& shape, std::span<const std::byte> rows, RowPlacement placement) {
  const auto num_rows = static_cast<std::int64_t>(rows.size() / shape.row_bytes());
  const Strides strides = strides_for(placement, num_rows, shape.columns);
  const std::size_t size = size_of(shape.dtype);
  // Nothing at all for no rows: the tensor's data is then null.
  const std::int64_t extent =
      num_rows == 0 ? 0 : strides.offset + num_rows * strides.row + shape.columns * strides.column;
  auto memory = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(extent) * size);
  std::byte* const first = extent == 0 ? nullptr : memory->data() + static_cast<std::size_t>(strides.offset) * size;
  for (std::int64_t row = 0; row < num_rows; ++row) {
    for (std::int64_t column = 0; column < shape.columns; ++column) {
      std::memcpy(first + static_cast<std::size_t>(row * strides.row + column * strides.column) * size,
                  &rows[static_cast<std::size_t>(row * shape.columns + column) * size], size);
    }
  }
  const std::int64_t extents[] = {num_rows, shape.columns};
  return Tensor::own(memory, first, shape.dtype, extents).with_strides({strides.row, strides.column});
}

Tensor as_vector(const Tensor& tensor) {
  const std::array shape{tensor.size(0)};
  return Tensor::own(tensor.owner(), tensor.data(), tensor.dtype(), shape, tensor.device());
}

void TensorPlace::write(const Tensor& tensor, std::span<const std::byte> bytes) const {
  if (!bytes.empty()) std::memcpy(tensor.data(), bytes.data(), bytes.size());
}

void Differences::compare_rows(const std::string& name, const Tensor& got, const MatrixShape& shape,
                               std::int64_t num_rows, std::span<const std::byte> expected) {
  if (got.dimensions() != 2 || got.dtype() != shape.dtype || got.size(0) != num_rows || got.size(1) != shape.columns) {
    add(fmt::format("{} is {}, expected {} [{}, {}]", name, got.description(), name_of(shape.dtype), num_rows,
                    shape.columns));
    return;
  }
  if (!got.is_contiguous()) add(fmt::format("{} is not contiguous", name));
  const Tensor fetched = expected.empty() ? got : place_.fetch(got);
  const std::size_t size = size_of(shape.dtype);
  for (std::size_t i = 0; i < expected.size(); i += size) {
    const std::byte* const element = fetched.data_as<const std::byte>() + i;
    if (std::memcmp(element, &expected[i], size) == 0) continue;
    const auto hex = [size](const std::byte* bytes) {
      std::string text;
      for (std::size_t b = size; b-- > 0;) text += fmt::format("{:02x}", std::to_integer<int>(bytes[b]));
      return text;
    };
    const auto columns = static_cast<std::size_t>(shape.columns);
    add(fmt::format("{}[{}][{}] of {} is 0x{}, expected 0x{}", name, i / size / columns, i / size % columns,
                    got.description(), hex(element), hex(&expected[i])));
    return;
  }
}

}  // namespace crossdock::testing
