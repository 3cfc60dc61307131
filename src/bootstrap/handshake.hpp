// Who may join: the two sides of the handshake as state machines over frames. No input or output.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bootstrap/frames.hpp"
#include "bootstrap/secret.hpp"

namespace crossdock::bootstrap {

/// What to do after a frame: send `reply` if it is not empty; then, if there is a refusal, close.
struct HandshakeStep {
  Bytes reply;
  bool accepted = false;  ///< the handshake is complete
  std::string refusal;    ///< why this peer cannot be talked to; empty if it can
};

/// A reject frame that carries the reason.
[[nodiscard]] Bytes make_reject(const std::string& reason);

/// Rank 0's side of one connection.
class RootHandshake {
 public:
  /// `key` is null without a secret, and must live as long as this.
  RootHandshake(int size, const SecretKey* key) : key_(key) { transcript_.size = static_cast<std::uint32_t>(size); }

  /// `taken` [size]: ranks that have come. Never throws for anything that a peer can send.
  [[nodiscard]] HandshakeStep receive(const Frame& frame, const std::vector<bool>& taken);

  /// The rank that the peer claims, or -1 before it has made a valid claim.
  [[nodiscard]] int rank() const noexcept { return rank_; }

 private:
  [[nodiscard]] HandshakeStep on_hello(const Frame& frame, const std::vector<bool>& taken);
  [[nodiscard]] HandshakeStep on_proof(const Frame& frame, const std::vector<bool>& taken);
  [[nodiscard]] HandshakeStep accept(const std::vector<bool>& taken);

  const SecretKey* key_;
  FrameType expected_ = FrameType::kHello;
  int rank_ = -1;
  Transcript transcript_;
};

/// The side of every other rank.
class MemberHandshake {
 public:
  MemberHandshake(int rank, int size, const SecretKey* key);

  /// The frame that opens the conversation.
  [[nodiscard]] Bytes hello() const;
  [[nodiscard]] HandshakeStep receive(const Frame& frame);

 private:
  [[nodiscard]] HandshakeStep on_challenge(const Frame& frame);
  [[nodiscard]] HandshakeStep on_accept(const Frame& frame) const;

  const SecretKey* key_;
  bool challenged_ = false;
  Transcript transcript_;
};

}  // namespace crossdock::bootstrap
