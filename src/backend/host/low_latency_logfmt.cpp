#include "backend/host/low_latency_logfmt.hpp"

#include "backend/host/arena.hpp"
#include "backend/host/logfmt_kernels.hpp"
#include "backend/host/low_latency_kernels.hpp"
#include "codec/logfmt.hpp"

namespace crossdock::host {

namespace {

std::size_t whole_lines(std::size_t bytes) {
  return (bytes + Arena::kSlabAlignment - 1) / Arena::kSlabAlignment * Arena::kSlabAlignment;
}

}  // namespace

std::size_t logfmt_stride(std::int64_t hidden) noexcept {
  return whole_lines(static_cast<std::size_t>(codec::logfmt_max_bytes(hidden)));
}

LogFmtStager::LogFmtStager(std::int64_t hidden, Stores stores, std::pmr::memory_resource& memory)
    : hidden_(static_cast<std::size_t>(hidden)), stores_(stores), row_(logfmt_stride(hidden), &memory) {}

void LogFmtStager::stage(const Bfloat16* x, std::size_t rows, std::byte* staged) {
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t bytes = encode_logfmt_row(x + row * hidden_, hidden_, row_.data());
    copy_bytes(row_.data(), whole_lines(bytes), staged + row * row_.size(), stores_);
  }
}

void LogFmtStager::finish() const {
  if (stores_ == Stores::kStreaming) flush_streaming_stores();
}

}  // namespace crossdock::host
