// Where LogFMT-10 lies in the window of the rank that staged it.
#pragma once

#include <cstdint>

namespace crossdock::cuda::device {

/// A row of H elements. First come the ranges of its groups, eight bytes each, then its units: 512 elements, the last
/// one what is left. Every unit has room for bfloat16s, so that its place does not depend on what the others became.
///
/// A lane has sixteen neighbours of a unit. The first part of a unit is 16 bytes for each lane, the second one 4 bytes
/// if the unit is cast, else 16: what codec/logfmt.hpp says in other places, so that lanes next to each other move
/// words next to each other, and all that is needed is read at once.
class LogFmtLayout {
 public:
  static constexpr int kGroup = 128;  ///< elements that share a range
  static constexpr int kUnit = 512;
  static constexpr int kLane = 16;
  static constexpr int kGroupLanes = kGroup / kLane;

  constexpr explicit LogFmtLayout(std::int64_t hidden)
      : hidden_(hidden), units_(round_up((hidden + kGroup - 1) / kGroup * kRangeBytes, kLaneBytes)) {}

  /// From row to row.
  [[nodiscard]] constexpr std::int64_t row_bytes() const {
    return round_up(units_ + (hidden_ + kLane - 1) / kLane * 2 * kLaneBytes, kLineBytes);
  }
  [[nodiscard]] constexpr int num_units() const { return static_cast<int>((hidden_ + kUnit - 1) / kUnit); }
  /// Of the last unit fewer.
  [[nodiscard]] constexpr int unit_elements(int unit) const {
    const std::int64_t left = hidden_ - std::int64_t{unit} * kUnit;
    return static_cast<int>(left < kUnit ? left : kUnit);
  }
  [[nodiscard]] constexpr int unit_lanes(int unit) const { return (unit_elements(unit) + kLane - 1) / kLane; }

  [[nodiscard]] static constexpr std::int64_t range(int group) { return group * kRangeBytes; }
  [[nodiscard]] constexpr std::int64_t first_part(int unit, int lane) const {
    return units_ + std::int64_t{unit} * kUnit * 2 + lane * kLaneBytes;
  }
  [[nodiscard]] constexpr std::int64_t cast_part(int unit, int lane) const {
    return first_part(unit, unit_lanes(unit)) + lane * kHighBytes;
  }
  [[nodiscard]] constexpr std::int64_t raw_part(int unit, int lane) const {
    return first_part(unit, unit_lanes(unit) + lane);
  }

  /// Are chunks two units? Units of a chunk are cast together or not at all.
  [[nodiscard]] constexpr bool has_pairs() const { return hidden_ % (std::int64_t{2} * kUnit) == 0; }
  /// Does a unit of that many elements get smaller by it?
  [[nodiscard]] static constexpr bool is_worth_it(int elements) {
    return (elements + kLane - 1) / kLane * (kLaneBytes + kHighBytes) < std::int64_t{2} * elements;
  }

 private:
  static constexpr std::int64_t kRangeBytes = 8;
  static constexpr std::int64_t kLaneBytes = 16;
  static constexpr std::int64_t kHighBytes = 4;
  static constexpr std::int64_t kLineBytes = 128;

  [[nodiscard]] static constexpr std::int64_t round_up(std::int64_t bytes, std::int64_t multiple) {
    return (bytes + multiple - 1) / multiple * multiple;
  }

  std::int64_t hidden_;
  std::int64_t units_;
};

}  // namespace crossdock::cuda::device
