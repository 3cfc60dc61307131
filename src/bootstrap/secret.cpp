#include "bootstrap/secret.hpp"

#include <bit>
#include <span>

#include <sodium.h>

#include <crossdock/bootstrap.hpp>

#include "base/error.hpp"
#include "bootstrap/bytes.hpp"

namespace crossdock::bootstrap {

namespace {

// Separate what crossdock derives from its secret from whatever else the same secret is used for.
constexpr std::string_view kKeyLabel = "crossdock bootstrap key";
constexpr std::string_view kProofLabel = "crossdock bootstrap proof";
static_assert(kKeyLabel.size() >= crypto_generichash_KEYBYTES_MIN &&
              kKeyLabel.size() <= crypto_generichash_KEYBYTES_MAX);
static_assert(wire::kProofBytes == crypto_auth_BYTES);

const unsigned char* as_unsigned(const void* bytes) { return static_cast<const unsigned char*>(bytes); }

/// Safe to call from any thread, any number of times.
void initialise() {
  if (sodium_init() < 0) throw make_error(ErrorCode::kSystem, "libsodium finds no source of randomness");
}

Bytes message_of(Role role, const Transcript& transcript) {
  Bytes result;
  append(result, std::as_bytes(std::span(kProofLabel)));
  append_little_endian(result, wire::kVersion);
  append_little_endian(result, static_cast<std::uint8_t>(role));
  append_little_endian(result, transcript.rank);
  append_little_endian(result, transcript.size);
  append(result, transcript.member_nonce);
  append(result, transcript.root_nonce);
  return result;
}

}  // namespace

Nonce make_nonce() {
  initialise();
  Nonce result;
  randombytes_buf(result.data(), result.size());
  return result;
}

SecretKey::SecretKey(std::string_view secret) {
  static_assert(sizeof(key_) == crypto_auth_KEYBYTES);
  initialise();
  crypto_generichash(key_.data(), key_.size(), as_unsigned(secret.data()), secret.size(), as_unsigned(kKeyLabel.data()),
                     kKeyLabel.size());
}

SecretKey::~SecretKey() { sodium_memzero(key_.data(), key_.size()); }

Proof SecretKey::prove(Role role, const Transcript& transcript) const {
  const Bytes message = message_of(role, transcript);
  std::array<unsigned char, wire::kProofBytes> mac{};
  crypto_auth(mac.data(), as_unsigned(message.data()), message.size(), key_.data());
  return std::bit_cast<Proof>(mac);
}

bool SecretKey::verify(const Proof& proof, Role role, const Transcript& transcript) const {
  const Bytes message = message_of(role, transcript);
  return crypto_auth_verify(as_unsigned(proof.data()), as_unsigned(message.data()), message.size(), key_.data()) == 0;
}

}  // namespace crossdock::bootstrap
