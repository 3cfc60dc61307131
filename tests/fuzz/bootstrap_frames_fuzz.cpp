// The frame reader and both sides of the handshake on arbitrary bytes: they refuse, or go on, within their bounds.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include <crossdock/error.hpp>

#include "bootstrap/frames.hpp"
#include "bootstrap/handshake.hpp"

namespace {

using crossdock::Bytes;
using namespace crossdock::bootstrap;  // NOLINT: a fuzz target is about this namespace

constexpr int kSize = 5;

/// Ends the program, which is how a fuzz target reports, unless the condition holds.
void expect(bool condition) {
  if (!condition) std::abort();
}

/// Consumes the input from the front; zeros once it is used up.
class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  [[nodiscard]] unsigned byte() {
    if (empty()) return 0;
    const auto result = std::to_integer<unsigned>(bytes_.front());
    bytes_ = bytes_.subspan(1);
    return result;
  }
  [[nodiscard]] Bytes take(std::size_t count) {
    const auto taken = bytes_.first(std::min(count, bytes_.size()));
    bytes_ = bytes_.subspan(taken.size());
    return {taken.begin(), taken.end()};
  }

 private:
  std::span<const std::byte> bytes_;
};

void expect_bounded(const Frame& frame, Phase phase) {
  expect(frame.payload.size() == frame.header.length);
  expect(frame.payload.size() <=
         (phase == Phase::kHandshake ? wire::kMaxHandshakePayload : crossdock::bootstrap::kMaxContribution));
}

/// A frame that was read is, written again, what was read.
void expect_round_trip(const Frame& frame, Phase phase) {
  Bytes bytes;
  append_frame(bytes, frame.header, frame.payload);
  const FrameHeader header = parse_header(std::span<const std::byte>(bytes).first<wire::kHeaderBytes>(), phase);
  expect(header.type == frame.header.type && header.rank == frame.header.rank && header.length == frame.header.length &&
         header.round == frame.header.round);
}

/// The bytes as a stream that arrives in pieces.
void read_stream(Input& input, Phase phase) {
  FrameReader reader;
  reader.set_phase(phase);
  const std::size_t step = input.byte() + 1;
  while (!input.empty()) {
    const auto wanted = reader.wanted();
    expect(!wanted.empty() && wanted.size() <= crossdock::bootstrap::kMaxContribution);
    const Bytes piece = input.take(std::min(step, wanted.size()));
    std::copy(piece.begin(), piece.end(), wanted.begin());
    const auto frame = reader.advance(piece.size());
    if (!frame) continue;
    expect_bounded(*frame, phase);
    expect_round_trip(*frame, phase);
    if (frame->header.type == FrameType::kGiveUp) expect(parse_give_up(*frame).count() >= 0);
    if (frame->header.type == FrameType::kFailure) expect(parse_failure(*frame).rank >= -1);
  }
}

/// A well-formed frame of the handshake with fields from the input, so that the input gets past the header.
Frame make_frame(Input& input) {
  const auto type = static_cast<FrameType>(input.byte() % 5 + 1);
  std::size_t length = wire::kProofBytes;
  if (type == FrameType::kHello) length = wire::kHelloBytes;
  if (type == FrameType::kAccept) length = input.byte() % (wire::kProofBytes + 1);
  if (type == FrameType::kReject) length = input.byte() * 2;
  Frame result;
  result.header = {.type = type, .rank = input.byte(), .length = static_cast<std::uint32_t>(length)};
  result.payload = input.take(length);
  result.payload.resize(length);
  // Most hellos should not fail for their size alone.
  if (type == FrameType::kHello && result.header.rank % 4 != 0) {
    std::fill_n(result.payload.begin(), 8, std::byte{0});
    result.payload[0] = std::byte{kSize};
    result.payload[4] = static_cast<std::byte>(input.byte() % 2);
  }
  return result;
}

void expect_consistent(const HandshakeStep& step) {
  expect(!step.accepted || step.refusal.empty());
  expect(step.reply.size() <= wire::kHeaderBytes + wire::kMaxHandshakePayload);
}

/// Nobody who lacks the key is ever accepted by a side that has it.
void shake_hands(Input& input, const SecretKey* key) {
  const std::vector<bool> taken = {true, false, true, false, false};
  RootHandshake root(kSize, key);
  MemberHandshake member(3, kSize, key);
  while (!input.empty()) {
    const Frame frame = make_frame(input);
    const HandshakeStep root_step = root.receive(frame, taken);
    expect_consistent(root_step);
    expect(!root_step.accepted || (key == nullptr && !taken[static_cast<std::size_t>(root.rank())]));
    const HandshakeStep member_step = member.receive(frame);
    expect_consistent(member_step);
    expect(!member_step.accepted || key == nullptr);
  }
}

void run(Input input) {
  static const SecretKey key("open sesame");
  switch (input.byte() % 4) {
    case 0: return read_stream(input, Phase::kHandshake);
    case 1: return read_stream(input, Phase::kGroup);
    case 2: return shake_hands(input, nullptr);
    default: return shake_hands(input, &key);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    run(Input(std::as_bytes(std::span(data, size))));
  } catch (const crossdock::Error& error) {
    expect(error.code() == crossdock::ErrorCode::kFormat);
  }
  return 0;
}
