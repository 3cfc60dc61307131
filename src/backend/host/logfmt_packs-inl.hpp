// The packs of LogFMT-10 (docs/codecs.md), a group at a time. For files that Highway compiles once for each instruction
// set: it is read again each time, which is what the toggled guard is for.
#if defined(CROSSDOCK_LOGFMT_PACKS_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef CROSSDOCK_LOGFMT_PACKS_INL_HPP
#undef CROSSDOCK_LOGFMT_PACKS_INL_HPP
#else
#define CROSSDOCK_LOGFMT_PACKS_INL_HPP
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/bfloat16.hpp"
#include "codec/logfmt.hpp"

HWY_BEFORE_NAMESPACE();
namespace crossdock::host::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr auto kGroup = static_cast<std::size_t>(codec::kLogFmtGroupChannels);
constexpr auto kPack = static_cast<std::size_t>(codec::kLogFmtPackElements);
constexpr auto kPackBytes = static_cast<std::size_t>(codec::kLogFmtPackBytes);
constexpr std::size_t kGroupBytes = kGroup / kPack * kPackBytes;
constexpr std::size_t kEight = 8;
constexpr std::size_t kEightBytes = 9;  // of eight codes; then come the signs of a pack
static_assert(kPackBytes == 2 * kEightBytes + 2);

/// The codes of a group on their way to or from packs; after unpacking bit 15 is the sign.
struct GroupCodes {
  HWY_ALIGN_MAX std::uint16_t of[kGroup];
};

// Eight codes of nine bits are nine bytes, and code j of them begins at bit j of byte j: shifted by j, its low byte is
// byte j's share and its high byte that of byte j + 1.

#if HWY_TARGET == HWY_SCALAR

/// Packs the codes, and the signs of the group's elements.
void pack_group(const GroupCodes& codes, const Bfloat16* group, std::byte* out) {
  for (std::size_t at = 0; at < kGroup; at += kEight) {
    std::byte* pack = out + at / kPack * kPackBytes;
    const std::size_t half = at % kPack / kEight;
    std::byte* bytes = pack + half * kEightBytes;
    unsigned carry = 0;
    unsigned signs = 0;
    for (std::size_t j = 0; j < kEight; ++j) {
      const unsigned shifted = static_cast<unsigned>(codes.of[at + j]) << j;
      bytes[j] = static_cast<std::byte>((shifted | carry) & 0xFFU);
      carry = shifted >> 8U;
      signs |= (static_cast<unsigned>(group[at + j].bits) >> 15U) << j;
    }
    bytes[kEight] = static_cast<std::byte>(carry);
    pack[2 * kEightBytes + half] = static_cast<std::byte>(signs);
  }
}

void unpack_group(const std::byte* in, GroupCodes& codes) {
  for (std::size_t at = 0; at < kGroup; at += kEight) {
    const std::byte* pack = in + at / kPack * kPackBytes;
    const std::size_t half = at % kPack / kEight;
    const std::byte* bytes = pack + half * kEightBytes;
    const auto signs = std::to_integer<unsigned>(pack[2 * kEightBytes + half]);
    for (std::size_t j = 0; j < kEight; ++j) {
      const unsigned both = std::to_integer<unsigned>(bytes[j]) | std::to_integer<unsigned>(bytes[j + 1]) << 8U;
      codes.of[at + j] = static_cast<std::uint16_t>(((both >> j) & 0x1FFU) | ((signs >> j) & 1U) << 15U);
    }
  }
}

#else

/// Packs the codes, and the signs of the group's elements.
void pack_group(const GroupCodes& codes, const Bfloat16* group, std::byte* out) {
  constexpr std::uint8_t kNone = 0x80;
  alignas(16) static constexpr std::uint16_t kShifts[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  alignas(16) static constexpr std::uint8_t kLowBytes[16] = {0,     2,     4,     6,     8,     10,    12,    14,
                                                             kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone};
  alignas(16) static constexpr std::uint8_t kHighBytes[16] = {kNone, 1,     3,     5,     7,     9,     11,    13,
                                                              15,    kNone, kNone, kNone, kNone, kNone, kNone, kNone};
  const hn::ScalableTag<std::uint16_t> d;
  const hn::ScalableTag<std::uint8_t> d8;
  const hn::RebindToSigned<decltype(d)> signed_d;
  HWY_ALIGN_MAX std::uint8_t blocks[2 * kGroup];  // sixteen bytes for eight elements, nine of them used
  HWY_ALIGN_MAX std::uint8_t signs[kGroup / 8];
  const auto shifts = hn::LoadDup128(d, kShifts);
  const auto low_bytes = hn::LoadDup128(d8, kLowBytes);
  const auto high_bytes = hn::LoadDup128(d8, kHighBytes);
  for (std::size_t at = 0; at < kGroup; at += hn::Lanes(d)) {
    const auto shifted = hn::BitCast(d8, hn::Mul(hn::Load(d, codes.of + at), shifts));
    const auto packed =
        hn::Or(hn::TableLookupBytesOr0(shifted, low_bytes), hn::TableLookupBytesOr0(shifted, high_bytes));
    hn::Store(packed, d8, blocks + 2 * at);
    const auto bits = hn::LoadU(signed_d, reinterpret_cast<const std::int16_t*>(group + at));
    hn::StoreMaskBits(signed_d, hn::Lt(bits, hn::Zero(signed_d)), signs + at / 8);
  }
  for (std::size_t pack = 0; pack < kGroup / kPack; ++pack, out += kPackBytes) {
    std::memcpy(out, blocks + 32 * pack, kEightBytes);
    std::memcpy(out + kEightBytes, blocks + 32 * pack + 16, kEightBytes);
    std::memcpy(out + 2 * kEightBytes, signs + 2 * pack, 2);
  }
}

/// Bytes j and j + 1 of nine hold code j, which is shifted to the top and down again.
void unpack_group(const std::byte* in, GroupCodes& codes) {
  constexpr std::uint8_t kNone = 0x80;
  alignas(16) static constexpr std::uint16_t kShifts[8] = {128, 64, 32, 16, 8, 4, 2, 1};
  // A pack is read as bytes 0 to 15 and as bytes 4 to 19.
  alignas(16) static constexpr std::uint8_t kFirst[16] = {0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8};
  alignas(16) static constexpr std::uint8_t kLast[16] = {5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13};
  alignas(16) static constexpr std::uint8_t kFirstSigns[16] = {kNone, 14, kNone, 14, kNone, 14, kNone, 14,
                                                               kNone, 14, kNone, 14, kNone, 14, kNone, 14};
  alignas(16) static constexpr std::uint8_t kLastSigns[16] = {kNone, 15, kNone, 15, kNone, 15, kNone, 15,
                                                              kNone, 15, kNone, 15, kNone, 15, kNone, 15};
  const hn::FixedTag<std::uint8_t, 16> d8;
  const hn::FixedTag<std::uint16_t, 8> d;
  using Bytes = hn::Vec<decltype(d8)>;
  const auto shifts = hn::Load(d, kShifts);
  const auto sign_bit = hn::Set(d, std::uint16_t{0x8000});
  const auto unpack = [&](Bytes code_bytes, Bytes sign_bytes) HWY_ATTR {
    const auto code = hn::ShiftRight<7>(hn::Mul(hn::BitCast(d, code_bytes), shifts));
    return hn::Or(code, hn::And(hn::Mul(hn::BitCast(d, sign_bytes), shifts), sign_bit));
  };
  const auto* from = reinterpret_cast<const std::uint8_t*>(in);
  for (std::size_t at = 0; at < kGroup; at += kPack, from += kPackBytes) {
    const auto first = hn::LoadU(d8, from);
    const auto last = hn::LoadU(d8, from + 4);
    hn::Store(unpack(hn::TableLookupBytes(first, hn::Load(d8, kFirst)),
                     hn::TableLookupBytesOr0(last, hn::Load(d8, kFirstSigns))),
              d, codes.of + at);
    hn::Store(unpack(hn::TableLookupBytes(last, hn::Load(d8, kLast)),
                     hn::TableLookupBytesOr0(last, hn::Load(d8, kLastSigns))),
              d, codes.of + at + 8);
  }
}

#endif

}  // namespace
}  // namespace crossdock::host::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
