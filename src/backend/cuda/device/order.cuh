// The device's side of order.hpp.
#pragma once

#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/order.hpp"
#include "backend/cuda/device/stamped.hpp"

namespace crossdock::cuda::device {

/// By one thread of the first block. A word without the order's number if it does not come.
__device__ inline std::uint64_t thread_await_order(const Order& order, int index) {
  constexpr unsigned kPollsPerClock = 16;
  const std::uint64_t begin = thread_clock_ns();
  for (unsigned polls = 1;; ++polls) {
    const std::uint64_t word = thread_acquire(&order.words[index]);
    if (is_stamped(word, order.number)) return word;
    if (polls % kPollsPerClock == 0 && thread_clock_ns() - begin >= order.patience_ns) return 0;
  }
}

/// The same of the other blocks: the first one always passes something on.
__device__ inline std::uint64_t thread_await_passed_on(const Order& order, int index) {
  while (true) {
    const std::uint64_t word = thread_acquire_here(&order.passed_on[index]);
    if (is_stamped(word, order.number)) return word;
  }
}

/// Waits for the order's `num_words` words of `table`, which lies in shared memory. All threads call it. Are they to be
/// carried out? All blocks get the same answer.
template <typename Table>
__device__ bool block_read_order(const Order& order, int num_words, Table& table) {
  auto* const words = reinterpret_cast<std::uint32_t*>(&table);
  const bool is_first = blockIdx.x == 0;
  bool is_called_off = false;
  for (int i = static_cast<int>(threadIdx.x); i <= num_words; i += block_threads()) {
    const std::uint64_t word = is_first ? thread_await_order(order, i) : thread_await_passed_on(order, i);
    if (i < num_words) words[i] = value_of(word);
    is_called_off |= !is_stamped(word, order.number) || (i == num_words && value_of(word) != Order::kCarryOut);
  }
  is_called_off = __syncthreads_or(is_called_off ? 1 : 0) != 0;
  if (!is_first) return !is_called_off;
  const std::uint32_t verdict = is_called_off ? Order::kCallOff : Order::kCarryOut;
  for (int i = static_cast<int>(threadIdx.x); i <= num_words; i += block_threads()) {
    thread_release_here(&order.passed_on[i], stamped(order.number, i < num_words ? words[i] : verdict));
  }
  return !is_called_off;
}

}  // namespace crossdock::cuda::device
