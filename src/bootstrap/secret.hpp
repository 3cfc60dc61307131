// What the handshake needs of cryptography: a key from the shared secret, nonces, proofs. libsodium does the work.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "bootstrap/wire.hpp"

namespace crossdock::bootstrap {

using Nonce = std::array<std::byte, wire::kNonceBytes>;
using Proof = std::array<std::byte, wire::kProofBytes>;

enum class Role : std::uint8_t { kMember = 1, kRoot = 2 };

/// What a proof vouches for.
struct Transcript {
  std::uint32_t rank = 0;  ///< the member's
  std::uint32_t size = 0;
  Nonce member_nonce{};
  Nonce root_nonce{};
};

/// Throws kSystem if the machine has no source of randomness.
[[nodiscard]] Nonce make_nonce();

/// The shared secret as a key of fixed length, wiped from memory at the end.
class SecretKey {
 public:
  explicit SecretKey(std::string_view secret);
  SecretKey(const SecretKey&) = delete;
  SecretKey& operator=(const SecretKey&) = delete;
  ~SecretKey();

  /// The MAC with which `role` shows that it knows the secret.
  [[nodiscard]] Proof prove(Role role, const Transcript& transcript) const;
  /// In constant time.
  [[nodiscard]] bool verify(const Proof& proof, Role role, const Transcript& transcript) const;

 private:
  std::array<unsigned char, 32> key_{};
};

}  // namespace crossdock::bootstrap
