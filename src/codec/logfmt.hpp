// LogFMT-10: rows of bfloat16 on the wire of a low-latency combine, ten bits an element where that is possible. Plain
// code that is the definition (docs/codecs.md says it in words, bit by bit); faster versions equal it bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bfloat16.hpp"
#include "codec/logfmt_scale.hpp"

namespace crossdock::codec {

/// Channels that share a range; the last group of a row is short if hidden is not a multiple.
inline constexpr std::int64_t kLogFmtGroupChannels = 128;
/// Sixteen elements make a pack of five 32-bit words.
inline constexpr std::int64_t kLogFmtPackElements = 16;
inline constexpr std::int64_t kLogFmtPackBytes = 20;

/// Bytes of a row's meta block: four for each group, padded with zeros to a multiple of 16. REQUIRES: hidden >= 0.
[[nodiscard]] std::int64_t logfmt_meta_bytes(std::int64_t hidden) noexcept;
/// Elements of a chunk: 1024 if hidden is a multiple of that, else 512, and then the last chunk of a row may be short.
[[nodiscard]] std::int64_t logfmt_chunk_elements(std::int64_t hidden) noexcept;
/// A chunk is cast if all its groups are castable and it gets smaller by it; otherwise it stays bfloat16.
[[nodiscard]] bool logfmt_is_cast(std::int64_t elements, std::span<const LogFmtExtremes> groups) noexcept;
/// The bytes of a chunk.
[[nodiscard]] std::int64_t logfmt_chunk_bytes(std::int64_t elements, bool is_cast) noexcept;
/// The most bytes that a row of this length takes: all chunks bfloat16. REQUIRES: hidden >= 0.
[[nodiscard]] std::int64_t logfmt_max_bytes(std::int64_t hidden) noexcept;
/// The bytes that this row takes.
[[nodiscard]] std::int64_t logfmt_wire_bytes(std::span<const Bfloat16> row);

/// Writes a row and returns how many bytes that took. REQUIRES: wire.size() >= logfmt_wire_bytes(row).
std::size_t encode_logfmt(std::span<const Bfloat16> row, std::span<std::byte> wire);
/// Reads a row of row.size() elements and returns how many bytes it took. Throws kInvalidArgument, with nothing
/// written, if the wire is shorter than its meta block says.
std::size_t decode_logfmt(std::span<const std::byte> wire, std::span<float> row);

}  // namespace crossdock::codec
