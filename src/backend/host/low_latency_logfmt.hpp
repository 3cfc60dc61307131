// Rows of a low-latency combine as LogFMT-10 (codec/logfmt.hpp) on their way to the ranks that sum them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "backend/host/kernels.hpp"
#include "base/bfloat16.hpp"

namespace crossdock::host {

/// Bytes from staged row to staged row: enough for any, whole cache lines. A row that became shorter leaves the rest of
/// its place alone, but for what it takes to make it whole cache lines.
[[nodiscard]] std::size_t logfmt_stride(std::int64_t hidden) noexcept;

/// Puts the rows of one operation in their places. They are encoded in memory of its own: streaming stores, which the
/// places may want (stores_for), need whole vectors.
class LogFmtStager {
 public:
  LogFmtStager(std::int64_t hidden, Stores stores, std::pmr::memory_resource& memory);

  /// `rows` contiguous rows of x to as many places of the stride.
  void stage(const Bfloat16* x, std::size_t rows, std::byte* staged);

  /// Before the signal that says that the rows are there.
  void finish() const;

 private:
  std::size_t hidden_;
  Stores stores_;
  std::pmr::vector<std::byte> row_;
};

}  // namespace crossdock::host
