// Random choices from a seed, the same on every platform.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

namespace crossdock::testing {

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}

  [[nodiscard]] std::uint64_t bits() { return engine_(); }
  /// From low to high, both included. The slight bias of the remainder does not matter here.
  [[nodiscard]] std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  [[nodiscard]] bool chance(int percent) { return between(1, 100) <= percent; }
  /// In [0, 1).
  [[nodiscard]] double fraction() { return static_cast<double>(bits() >> 11U) * 0x1p-53; }
  template <typename T>
  [[nodiscard]] T one_of(std::initializer_list<T> choices) {
    return choices.begin()[between(0, static_cast<std::int64_t>(choices.size()) - 1)];
  }
  [[nodiscard]] std::vector<std::byte> bytes(std::size_t count) {
    std::vector<std::byte> result(count);
    for (std::byte& byte : result) byte = static_cast<std::byte>(bits() >> 56U);
    return result;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace crossdock::testing
