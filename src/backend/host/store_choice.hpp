// How a rank stores what other cores are going to read.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "backend/host/kernels.hpp"

namespace crossdock::host {

/// For batches that are stored at the same places again and again. A regular store to a line that another core
/// has read waits for that core; how long depends on where the two cores are, which in a virtual machine changes while
/// the program runs. A streaming store never waits, but then the reader has to go to memory. So the regular stores are
/// timed: where they are slow, all but a few batches of that size stream. Thread-safe.
class StoreChoice {
 public:
  using Duration = std::chrono::nanoseconds;

  /// Batches that stream after kTrials in a row that regular stores were slow for.
  static constexpr int kStreamingRun = 1024;
  /// The first batch after streaming ones finds the lines elsewhere than later ones do.
  static constexpr int kTrials = 3;

  /// Batches of more than `most_bytes` always stream. `slow_line`: regular stores of 64 bytes that take longer are
  /// slow.
  StoreChoice(std::size_t most_bytes, Duration slow_line) noexcept : most_bytes_(most_bytes), slow_line_(slow_line) {}

  /// For a batch of that many bytes. What stores_for() does not stream is not looked at.
  [[nodiscard]] Stores choose(std::size_t bytes) noexcept;
  /// Of such a batch `stored` bytes were stored with regular stores, after choose() had said so.
  void note(std::size_t bytes, std::size_t stored, Duration took) noexcept;
  /// Whether regular stores were slow when they were last tried, for a batch of any size.
  [[nodiscard]] bool are_slow() const noexcept { return are_slow_.load(std::memory_order_relaxed); }

 private:
  struct Size {
    std::atomic<int> streaming_left = 0;
    std::atomic<int> slow_trials = 0;
  };

  /// Batches of similar size are alike.
  [[nodiscard]] Size& size_of(std::size_t bytes) noexcept { return sizes_[std::bit_width(bytes)]; }

  std::size_t most_bytes_;
  Duration slow_line_;
  std::array<Size, 65> sizes_;
  std::atomic<bool> are_slow_ = false;
};

}  // namespace crossdock::host
