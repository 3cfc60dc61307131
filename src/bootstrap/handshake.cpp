#include "bootstrap/handshake.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "bootstrap/bytes.hpp"

namespace crossdock::bootstrap {

namespace {

/// REQUIRES: bytes.size() >= offset + the array's size
template <typename Array>
Array copy_array(std::span<const std::byte> bytes, std::size_t offset) {
  Array result;
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), result.size(), result.begin());
  return result;
}

HandshakeStep refuse(std::string reason) {
  HandshakeStep result;
  result.reply = make_reject(reason);
  result.refusal = std::move(reason);
  return result;
}

/// For the member: rank 0 has decided, nothing is to be sent.
HandshakeStep give_up(std::string reason) {
  HandshakeStep result;
  result.refusal = std::move(reason);
  return result;
}

std::string out_of_turn(const Frame& frame) {
  return fmt::format("a frame of type {} out of turn", static_cast<int>(frame.header.type));
}

struct Hello {
  std::uint32_t size;
  std::uint8_t has_secret;
  Nonce nonce;
};

Hello parse_hello(std::span<const std::byte> payload) {
  return {read_little_endian<std::uint32_t>(payload, 0), read_little_endian<std::uint8_t>(payload, 4),
          copy_array<Nonce>(payload, wire::kHelloNonceOffset)};
}

}  // namespace

Bytes make_reject(const std::string& reason) {
  const auto text = std::as_bytes(std::span(reason));
  Bytes result;
  append_frame(result, {.type = FrameType::kReject}, text.first(std::min(text.size(), wire::kMaxRejectBytes)));
  return result;
}

HandshakeStep RootHandshake::receive(const Frame& frame, const std::vector<bool>& taken) {
  if (frame.header.type != expected_) return refuse(out_of_turn(frame));
  return expected_ == FrameType::kHello ? on_hello(frame, taken) : on_proof(frame, taken);
}

HandshakeStep RootHandshake::on_hello(const Frame& frame, const std::vector<bool>& taken) {
  const Hello hello = parse_hello(frame.payload);
  if (hello.size != transcript_.size) {
    return refuse(
        fmt::format("rank {} expects {} ranks; rank 0 expects {}", frame.header.rank, hello.size, transcript_.size));
  }
  if (frame.header.rank == 0 || frame.header.rank >= transcript_.size) {
    return refuse(fmt::format("rank {} cannot join; 1 to {} are allowed", frame.header.rank, transcript_.size - 1));
  }
  if (hello.has_secret > 1) return refuse("a malformed hello");
  if ((hello.has_secret == 1) != (key_ != nullptr)) {
    return refuse(key_ != nullptr ? fmt::format("rank 0 has a secret; rank {} has none", frame.header.rank)
                                  : fmt::format("rank {} has a secret; rank 0 has none", frame.header.rank));
  }
  rank_ = static_cast<int>(frame.header.rank);
  transcript_.rank = frame.header.rank;
  if (key_ == nullptr) return accept(taken);
  transcript_.member_nonce = hello.nonce;
  transcript_.root_nonce = make_nonce();
  expected_ = FrameType::kProof;
  HandshakeStep result;
  append_frame(result.reply, {.type = FrameType::kChallenge}, transcript_.root_nonce);
  return result;
}

HandshakeStep RootHandshake::on_proof(const Frame& frame, const std::vector<bool>& taken) {
  if (!key_->verify(copy_array<Proof>(frame.payload, 0), Role::kMember, transcript_)) {
    return refuse(fmt::format("the secret of rank {} is not that of rank 0", rank_));
  }
  return accept(taken);
}

HandshakeStep RootHandshake::accept(const std::vector<bool>& taken) {
  if (taken[static_cast<std::size_t>(rank_)]) return refuse(fmt::format("rank {} has already come", rank_));
  HandshakeStep result;
  result.accepted = true;
  if (key_ != nullptr) {
    append_frame(result.reply, {.type = FrameType::kAccept}, key_->prove(Role::kRoot, transcript_));
  } else {
    append_frame(result.reply, {.type = FrameType::kAccept});
  }
  return result;
}

MemberHandshake::MemberHandshake(int rank, int size, const SecretKey* key) : key_(key) {
  transcript_.rank = static_cast<std::uint32_t>(rank);
  transcript_.size = static_cast<std::uint32_t>(size);
  transcript_.member_nonce = make_nonce();
}

Bytes MemberHandshake::hello() const {
  Bytes payload;
  append_little_endian(payload, transcript_.size);
  append_little_endian(payload, static_cast<std::uint8_t>(key_ != nullptr ? 1 : 0));
  payload.resize(wire::kHelloNonceOffset);
  append(payload, transcript_.member_nonce);
  Bytes result;
  append_frame(result, {.type = FrameType::kHello, .rank = transcript_.rank}, payload);
  return result;
}

HandshakeStep MemberHandshake::receive(const Frame& frame) {
  switch (frame.header.type) {
    case FrameType::kChallenge: return on_challenge(frame);
    case FrameType::kAccept: return on_accept(frame);
    case FrameType::kReject:
      return give_up(fmt::format("rank 0 refused: {}", printable(frame.payload, wire::kMaxRejectBytes)));
    case FrameType::kHello:
    case FrameType::kProof:
    case FrameType::kStart:
    case FrameType::kContribution:
    case FrameType::kBarrier:
    case FrameType::kGiveUp:
    case FrameType::kFailure: break;
  }
  return give_up("rank 0 sent " + out_of_turn(frame));
}

HandshakeStep MemberHandshake::on_challenge(const Frame& frame) {
  if (key_ == nullptr) return give_up("rank 0 has a secret; this rank has none");
  if (std::exchange(challenged_, true)) return give_up("rank 0 sent " + out_of_turn(frame));
  transcript_.root_nonce = copy_array<Nonce>(frame.payload, 0);
  HandshakeStep result;
  append_frame(result.reply, {.type = FrameType::kProof, .rank = transcript_.rank},
               key_->prove(Role::kMember, transcript_));
  return result;
}

HandshakeStep MemberHandshake::on_accept(const Frame& frame) const {
  HandshakeStep result;
  result.accepted = true;
  if (key_ == nullptr) {
    return frame.payload.empty() ? result : give_up("rank 0 has a secret; this rank has none");
  }
  const bool proven = challenged_ && frame.payload.size() == wire::kProofBytes &&
                      key_->verify(copy_array<Proof>(frame.payload, 0), Role::kRoot, transcript_);
  return proven ? result : give_up("rank 0 did not prove that it knows the secret");
}

}  // namespace crossdock::bootstrap
