// Tensors as callers bring them, and comparisons with the oracle's packed rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <crossdock/tensor.hpp>

#include "support/random_world.hpp"

namespace crossdock::testing {

enum class RowPlacement : std::uint8_t {
  kPacked,
  kPadded,      ///< row-major with a gap after each row, from an address that suits the element and nothing larger
  kTransposed,  ///< column-major
};

/// A tensor of its own memory with these rows, packed in `rows`; their number follows from the bytes.
[[nodiscard]] Tensor make_rows(const MatrixShape& shape, std::span<const std::byte> rows,
                               RowPlacement placement = RowPlacement::kPacked);
/// A packed tensor of values.
template <typename T>
[[nodiscard]] Tensor make_matrix(DataType dtype, std::int64_t columns, std::span<const T> values) {
  return make_rows({dtype, columns}, std::as_bytes(values));
}

/// [n, 1] as [n].
[[nodiscard]] Tensor as_vector(const Tensor& tensor);

/// Where a buffer's tensors live. This one: in host memory, where tests make them.
class TensorPlace {
 public:
  virtual ~TensorPlace() = default;
  /// The same tensor there: its strides, and where its first element lies in a word of 16 bytes, too.
  [[nodiscard]] virtual Tensor place(const Tensor& tensor) const { return tensor; }
  /// The contiguous tensor in host memory.
  [[nodiscard]] virtual Tensor fetch(const Tensor& tensor) const { return tensor; }
  /// Overwrites the first bytes of a contiguous tensor.
  virtual void write(const Tensor& tensor, std::span<const std::byte> bytes) const;
  [[nodiscard]] virtual Device device() const { return {}; }
  /// The caller's stream of operations on these tensors.
  [[nodiscard]] virtual Stream stream() const { return {}; }
  /// Waits for it.
  virtual void synchronize() const {}
};

/// Differences found, each a sentence.
class Differences {
 public:
  /// `place` must outlive this.
  explicit Differences(const TensorPlace& place) : place_(place) {}

  /// `expected` are the first rows of `got`, which has `num_rows` rows and is contiguous.
  void compare_rows(const std::string& name, const Tensor& got, const MatrixShape& shape, std::int64_t num_rows,
                    std::span<const std::byte> expected);
  template <typename T>
  void compare(const std::string& name, const T& got, const T& expected) {
    if (!(got == expected)) lines_.push_back(name + " is not as expected");
  }
  /// As a host tensor, for comparisons of other kinds.
  [[nodiscard]] Tensor fetch(const Tensor& tensor) const { return place_.fetch(tensor); }
  void add(std::string line) { lines_.push_back(std::move(line)); }

  [[nodiscard]] const std::vector<std::string>& lines() const noexcept { return lines_; }

 private:
  const TensorPlace& place_;
  std::vector<std::string> lines_;
};

}  // namespace crossdock::testing
