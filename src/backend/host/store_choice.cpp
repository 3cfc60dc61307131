#include "backend/host/store_choice.hpp"

namespace crossdock::host {

Stores StoreChoice::choose(std::size_t bytes) noexcept {
  if (bytes > most_bytes_) return Stores::kStreaming;
  if (stores_for(bytes) == Stores::kCached) return Stores::kCached;
  std::atomic<int>& left = size_of(bytes).streaming_left;
  const int seen = left.load(std::memory_order_relaxed);
  if (seen <= 0) return Stores::kCached;
  // Two threads at once may count one batch less; nothing depends on the exact number.
  left.store(seen - 1, std::memory_order_relaxed);
  return Stores::kStreaming;
}

void StoreChoice::note(std::size_t bytes, std::size_t stored, Duration took) noexcept {
  constexpr std::size_t kBytesPerLine = 64;
  Size& size = size_of(bytes);
  const bool is_slow = took > slow_line_ * static_cast<std::int64_t>(stored / kBytesPerLine);
  const int trials = is_slow ? size.slow_trials.load(std::memory_order_relaxed) + 1 : 0;
  const bool is_verdict = !is_slow || trials == kTrials;
  size.slow_trials.store(is_verdict ? 0 : trials, std::memory_order_relaxed);
  if (!is_verdict) return;
  if (is_slow) size.streaming_left.store(kStreamingRun, std::memory_order_relaxed);
  are_slow_.store(is_slow, std::memory_order_relaxed);
}

}  // namespace crossdock::host
