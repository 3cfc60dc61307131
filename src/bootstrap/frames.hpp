// Frames of the TCP rendezvous: building them, and reading them from a stream of untrusted bytes. No input or output.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include <crossdock/bootstrap.hpp>

#include "bootstrap/failure.hpp"
#include "bootstrap/wire.hpp"

namespace crossdock::bootstrap {

using wire::FrameType;

/// A type that the current phase does not know is refused before its payload is read.
enum class Phase : std::uint8_t { kHandshake, kGroup };

struct FrameHeader {
  FrameType type = FrameType::kHello;
  std::uint32_t rank = wire::kNoRank;
  std::uint32_t length = 0;
  std::uint64_t round = 0;
};

struct Frame {
  FrameHeader header;
  Bytes payload;  ///< [header.length]
};

/// Appends a whole frame; `header.length` is taken from the payload.
void append_frame(Bytes& out, FrameHeader header, std::span<const std::byte> payload = {});

/// Checks everything that docs/bootstrap.md says about a header. Throws kFormat.
[[nodiscard]] FrameHeader parse_header(std::span<const std::byte, wire::kHeaderBytes> bytes, Phase phase);

/// Cuts a stream into frames. Takes memory for a payload only once its header has been checked.
class FrameReader {
 public:
  /// Where the next bytes of the stream belong; never empty.
  [[nodiscard]] std::span<std::byte> wanted();
  /// `count` bytes, 1 to wanted().size(), were written there. Returns the frame that they complete, if they do.
  /// Throws kFormat; then the stream is of no use any more.
  [[nodiscard]] std::optional<Frame> advance(std::size_t count);

  void set_phase(Phase phase) noexcept { phase_ = phase; }
  /// Whether the stream began like one of ours, so that an answer would be understood.
  [[nodiscard]] bool recognised() const noexcept { return recognised_; }

 private:
  Phase phase_ = Phase::kHandshake;
  bool recognised_ = false;
  bool in_payload_ = false;
  std::size_t filled_ = 0;  // of the header or of the payload
  std::array<std::byte, wire::kHeaderBytes> header_{};
  Frame frame_;
};

/// Text from a peer, made safe for logs: at most `limit` bytes, printable ASCII only.
[[nodiscard]] std::string printable(std::span<const std::byte> text, std::size_t limit);

/// The timeout that has passed on `rank`.
void append_give_up(Bytes& out, int rank, std::uint64_t round, Milliseconds timeout);
/// REQUIRES: a frame of type kGiveUp from a reader.
[[nodiscard]] Milliseconds parse_give_up(const Frame& frame);

void append_failure(Bytes& out, const Failure& failure);
/// REQUIRES: a frame of type kFailure from a reader. Throws kFormat.
[[nodiscard]] Failure parse_failure(const Frame& frame);

}  // namespace crossdock::bootstrap
