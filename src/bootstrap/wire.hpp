// Constants of the frames that docs/bootstrap.md describes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bootstrap/limits.hpp"

namespace crossdock::bootstrap::wire {

inline constexpr std::uint32_t kMagic = 0x4B434458;  // "XDCK" as little-endian bytes
inline constexpr std::uint8_t kVersion = 1;

inline constexpr std::size_t kMagicOffset = 0;
inline constexpr std::size_t kVersionOffset = 4;
inline constexpr std::size_t kTypeOffset = 5;
inline constexpr std::size_t kReservedOffset = 6;
inline constexpr std::size_t kRankOffset = 8;
inline constexpr std::size_t kLengthOffset = 12;
inline constexpr std::size_t kRoundOffset = 16;
inline constexpr std::size_t kHeaderBytes = 24;
static_assert(kHeaderBytes == kRoundOffset + sizeof(std::uint64_t));

inline constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

inline constexpr std::size_t kNonceBytes = 32;
inline constexpr std::size_t kProofBytes = 32;
inline constexpr std::size_t kHelloNonceOffset = 8;  // after size, a flag, and three zero bytes
inline constexpr std::size_t kHelloBytes = 40;
static_assert(kHelloBytes == kHelloNonceOffset + kNonceBytes);

inline constexpr std::size_t kMaxRejectBytes = 512;
inline constexpr std::size_t kGiveUpBytes = 8;         // a timeout in milliseconds
inline constexpr std::size_t kFailureTextOffset = 12;  // after code, operation, two zero bytes, expected, seen
inline constexpr std::size_t kMaxFailureBytes = kFailureTextOffset + 1024;

inline constexpr std::size_t kMaxHandshakePayload = kMaxRejectBytes;
static_assert(kMaxHandshakePayload >= kHelloBytes && kMaxHandshakePayload >= kProofBytes);
static_assert(kMaxContribution <= 0xFFFFFFFF, "a contribution's length must fit the header");

enum class FrameType : std::uint8_t {
  kHello = 1,
  kChallenge = 2,
  kProof = 3,
  kAccept = 4,
  kReject = 5,
  kStart = 6,
  kContribution = 7,
  kBarrier = 8,
  kGiveUp = 9,
  kFailure = 10,
};

}  // namespace crossdock::bootstrap::wire
