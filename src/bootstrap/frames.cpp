#include "bootstrap/frames.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.hpp"
#include "bootstrap/bytes.hpp"

namespace crossdock::bootstrap {

namespace {

struct FrameRule {
  FrameType type;
  Phase phase;
  std::size_t shortest;
  std::size_t longest;
};

constexpr std::array kRules = {
    FrameRule{FrameType::kHello, Phase::kHandshake, wire::kHelloBytes, wire::kHelloBytes},
    FrameRule{FrameType::kChallenge, Phase::kHandshake, wire::kNonceBytes, wire::kNonceBytes},
    FrameRule{FrameType::kProof, Phase::kHandshake, wire::kProofBytes, wire::kProofBytes},
    FrameRule{FrameType::kAccept, Phase::kHandshake, 0, wire::kProofBytes},
    FrameRule{FrameType::kReject, Phase::kHandshake, 0, wire::kMaxRejectBytes},
    FrameRule{FrameType::kStart, Phase::kGroup, 0, 0},
    FrameRule{FrameType::kContribution, Phase::kGroup, 0, kMaxContribution},
    FrameRule{FrameType::kBarrier, Phase::kGroup, 0, 0},
    FrameRule{FrameType::kGiveUp, Phase::kGroup, wire::kGiveUpBytes, wire::kGiveUpBytes},
    FrameRule{FrameType::kFailure, Phase::kGroup, wire::kFailureTextOffset, wire::kMaxFailureBytes},
};

/// Codes that rank 0 may hand on; anything else in a failure frame is malformed.
constexpr std::array kFailureCodes = {ErrorCode::kTimeout, ErrorCode::kPeerLost, ErrorCode::kBootstrap};

[[noreturn]] void refuse_strange_bytes(std::span<const std::byte> bytes) {
  throw make_error(ErrorCode::kFormat, "bytes that are not of crossdock's bootstrap: \"{}\"", printable(bytes, 16));
}

const FrameRule& rule_for(std::uint8_t type, Phase phase) {
  const auto rule = std::find_if(kRules.begin(), kRules.end(),
                                 [&](const FrameRule& r) { return static_cast<std::uint8_t>(r.type) == type; });
  if (rule == kRules.end()) throw make_error(ErrorCode::kFormat, "a frame of unknown type {}", type);
  if (rule->phase != phase) {
    throw make_error(ErrorCode::kFormat, "a frame of type {} {} the handshake", type,
                     phase == Phase::kHandshake ? "during" : "after");
  }
  return *rule;
}

}  // namespace

void append_frame(Bytes& out, FrameHeader header, std::span<const std::byte> payload) {
  append_little_endian(out, wire::kMagic);
  append_little_endian(out, wire::kVersion);
  append_little_endian(out, static_cast<std::uint8_t>(header.type));
  append_little_endian(out, std::uint16_t{0});
  append_little_endian(out, header.rank);
  append_little_endian(out, static_cast<std::uint32_t>(payload.size()));
  append_little_endian(out, header.round);
  append(out, payload);
}

FrameHeader parse_header(std::span<const std::byte, wire::kHeaderBytes> bytes, Phase phase) {
  if (read_little_endian<std::uint32_t>(bytes, wire::kMagicOffset) != wire::kMagic) refuse_strange_bytes(bytes);
  const auto version = read_little_endian<std::uint8_t>(bytes, wire::kVersionOffset);
  if (version != wire::kVersion) {
    throw make_error(ErrorCode::kFormat, "version {} of the bootstrap protocol; this rank speaks version {}", version,
                     wire::kVersion);
  }
  const auto type = read_little_endian<std::uint8_t>(bytes, wire::kTypeOffset);
  const FrameRule& rule = rule_for(type, phase);
  const FrameHeader header{.type = rule.type,
                           .rank = read_little_endian<std::uint32_t>(bytes, wire::kRankOffset),
                           .length = read_little_endian<std::uint32_t>(bytes, wire::kLengthOffset),
                           .round = read_little_endian<std::uint64_t>(bytes, wire::kRoundOffset)};
  if (read_little_endian<std::uint16_t>(bytes, wire::kReservedOffset) != 0) {
    throw make_error(ErrorCode::kFormat, "a frame of type {} whose reserved bytes are not 0", type);
  }
  if (header.length < rule.shortest || header.length > rule.longest) {
    throw make_error(ErrorCode::kFormat, "a frame of type {} with {} bytes of payload; {} to {} are allowed", type,
                     header.length, rule.shortest, rule.longest);
  }
  return header;
}

std::span<std::byte> FrameReader::wanted() {
  return (in_payload_ ? std::span<std::byte>(frame_.payload) : std::span<std::byte>(header_)).subspan(filled_);
}

std::optional<Frame> FrameReader::advance(std::size_t count) {
  filled_ += count;
  if (!in_payload_) {
    // A stranger need not send a whole header to be recognised as one.
    if (filled_ >= sizeof(wire::kMagic)) {
      recognised_ = read_little_endian<std::uint32_t>(header_, wire::kMagicOffset) == wire::kMagic;
      if (!recognised_) refuse_strange_bytes(std::span(header_).first(filled_));
    }
    if (filled_ < header_.size()) return std::nullopt;
    frame_.header = parse_header(header_, phase_);
    frame_.payload.resize(frame_.header.length);
    in_payload_ = true;
    filled_ = 0;
  }
  if (filled_ < frame_.payload.size()) return std::nullopt;
  in_payload_ = false;
  filled_ = 0;
  return std::exchange(frame_, Frame{});
}

std::string printable(std::span<const std::byte> text, std::size_t limit) {
  std::string result;
  for (const std::byte byte : text.first(std::min(text.size(), limit))) {
    const auto character = std::to_integer<unsigned char>(byte);
    result.push_back(character >= 0x20 && character < 0x7F ? static_cast<char>(character) : '.');
  }
  return result;
}

void append_give_up(Bytes& out, int rank, std::uint64_t round, Milliseconds timeout) {
  Bytes payload;
  append_little_endian(payload, static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0)));
  append_frame(out, {.type = FrameType::kGiveUp, .rank = static_cast<std::uint32_t>(rank), .round = round}, payload);
}

Milliseconds parse_give_up(const Frame& frame) {
  constexpr std::uint64_t kLongest = std::numeric_limits<std::int64_t>::max();
  const auto count = std::min(read_little_endian<std::uint64_t>(frame.payload, 0), kLongest);
  return Milliseconds(static_cast<std::int64_t>(count));
}

void append_failure(Bytes& out, const Failure& failure) {
  Bytes payload;
  append_little_endian(payload, static_cast<std::uint8_t>(failure.code));
  append_little_endian(payload, static_cast<std::uint8_t>(failure.operation));
  append_little_endian(payload, std::uint16_t{0});
  append_little_endian(payload, static_cast<std::uint32_t>(failure.expected));
  append_little_endian(payload, static_cast<std::uint32_t>(failure.seen));
  const auto text = std::as_bytes(std::span(failure.text));
  append(payload, text.first(std::min(text.size(), wire::kMaxFailureBytes - wire::kFailureTextOffset)));
  append_frame(out,
               {.type = FrameType::kFailure, .rank = static_cast<std::uint32_t>(failure.rank), .round = failure.round},
               payload);
}

Failure parse_failure(const Frame& frame) {
  const std::span<const std::byte> payload = frame.payload;
  Failure result;
  result.code = static_cast<ErrorCode>(payload[0]);
  result.operation = static_cast<Operation>(payload[1]);
  result.round = frame.header.round;
  result.rank = frame.header.rank < kMaxSize ? static_cast<int>(frame.header.rank) : -1;
  const auto expected = read_little_endian<std::uint32_t>(payload, 4);
  const auto seen = read_little_endian<std::uint32_t>(payload, 8);
  if (std::find(kFailureCodes.begin(), kFailureCodes.end(), result.code) == kFailureCodes.end() ||
      result.operation > Operation::kBarrier || expected > kMaxSize || seen > expected) {
    throw make_error(ErrorCode::kFormat, "a failure frame with impossible values");
  }
  result.expected = static_cast<int>(expected);
  result.seen = static_cast<int>(seen);
  result.text = printable(payload.subspan(wire::kFailureTextOffset), wire::kMaxFailureBytes);
  return result;
}

}  // namespace crossdock::bootstrap
