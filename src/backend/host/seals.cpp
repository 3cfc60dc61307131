#include "backend/host/seals.hpp"

#include "backend/host/window.hpp"

namespace crossdock::host {

namespace {

/// A seal of an earlier epoch is but an old value; one of a later epoch says that the rank has missed this one too.
bool is_sealed_from(std::uint64_t word, std::uint64_t signal) noexcept {
  return is_sealed(word) && (word & kEpochMask) >= (signal & kEpochMask);
}

}  // namespace

bool try_signal(std::atomic<std::uint64_t>& word, std::uint64_t signal) noexcept {
  std::uint64_t seen = word.load(std::memory_order_acquire);
  do {
    if (is_sealed_from(seen, signal)) return false;
  } while (!word.compare_exchange_weak(seen, signal, std::memory_order_acq_rel, std::memory_order_acquire));
  return true;
}

std::uint64_t seal(std::atomic<std::uint64_t>& word, std::uint64_t required, std::uint64_t sealed) noexcept {
  std::uint64_t seen = word.load(std::memory_order_acquire);
  while (!has_reached(seen, required) && !is_sealed_from(seen, required)) {
    if (word.compare_exchange_weak(seen, sealed, std::memory_order_acq_rel, std::memory_order_acquire)) return sealed;
  }
  return seen;
}

std::uint64_t seal_retired(std::atomic<std::uint64_t>& word, std::uint64_t required) noexcept {
  std::uint64_t seen = word.load(std::memory_order_acquire);
  while (!has_reached(seen, required) && !is_sealed(seen)) {
    const std::uint64_t sealed = seen | kSealed;
    if (word.compare_exchange_weak(seen, sealed, std::memory_order_acq_rel, std::memory_order_acquire)) return sealed;
  }
  return seen;
}

void stop(std::atomic<std::uint64_t>& word, std::uint64_t signal) noexcept {
  std::uint64_t seen = word.load(std::memory_order_acquire);
  while (!has_reached(seen, signal) && (seen & kEpochMask) <= (signal & kEpochMask) &&
         !word.compare_exchange_weak(seen, kSealed | kStopped | signal, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
  }
}

}  // namespace crossdock::host
