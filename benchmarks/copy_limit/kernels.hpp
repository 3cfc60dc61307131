// The loops whose speed is measured. Each moves `rows` consecutive rows of one process.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace copy_limit {

struct Work {
  std::byte* single;          // [rows, row_bytes]: what is spread, or the result of a reduction
  std::byte* const* several;  // [count] regions of the same shape
  std::size_t count;
  std::size_t rows;
  std::size_t row_bytes;  // a multiple of 64
};

enum class Direction { kMemcpy, kSpread, kReduce };

struct Kernel {
  Direction direction;
  std::string_view name;
  void (*run)(const Work&);
};

/// Every kernel that is worth trying; which is fastest depends on the processor.
[[nodiscard]] std::span<const Kernel> kernels();

}  // namespace copy_limit
