#include "bootstrap/handshake.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace crossdock::bootstrap {
namespace {

using testing::HasSubstr;

/// The one frame in these bytes.
Frame parse(const Bytes& bytes) {
  Frame result;
  result.header = parse_header(std::span(bytes).first<wire::kHeaderBytes>(), Phase::kHandshake);
  result.payload.assign(bytes.begin() + wire::kHeaderBytes, bytes.end());
  return result;
}

struct Outcome {
  HandshakeStep root;
  HandshakeStep member;
};

/// Carries frames between both sides until one of them is through.
Outcome converse(RootHandshake& root, MemberHandshake& member, const std::vector<bool>& taken) {
  Outcome result;
  Bytes from_member = member.hello();
  while (!from_member.empty()) {
    result.root = root.receive(parse(from_member), taken);
    if (result.root.reply.empty()) break;
    result.member = member.receive(parse(result.root.reply));
    from_member = result.member.reply;
  }
  return result;
}

const std::vector<bool> kNobody = {true, false, false};

TEST(Handshake, WithoutSecrets) {
  RootHandshake root(3, nullptr);
  MemberHandshake member(2, 3, nullptr);
  const Outcome outcome = converse(root, member, kNobody);
  EXPECT_TRUE(outcome.root.accepted && outcome.member.accepted);
  EXPECT_EQ(root.rank(), 2);
}

TEST(Handshake, WithOneSecret) {
  const SecretKey root_key("open sesame");
  const SecretKey member_key("open sesame");
  RootHandshake root(3, &root_key);
  MemberHandshake member(1, 3, &member_key);
  const Outcome outcome = converse(root, member, kNobody);
  EXPECT_TRUE(outcome.root.accepted && outcome.member.accepted);
  EXPECT_EQ(root.rank(), 1);
}

struct Refusal {
  int rank;
  int size;
  const char* member_secret;
  const char* root_secret;
  const char* reason;
};

TEST(Handshake, TellsBothSidesWhyItRefuses) {
  const Refusal refusals[] = {{1, 3, "open sesame", "open barley", "the secret of rank 1 is not that of rank 0"},
                              {1, 3, "", "open barley", "rank 0 has a secret; rank 1 has none"},
                              {1, 3, "open sesame", "", "rank 1 has a secret; rank 0 has none"},
                              {1, 4, "", "", "rank 1 expects 4 ranks; rank 0 expects 3"},
                              {3, 3, "", "", "rank 3 cannot join; 1 to 2 are allowed"},
                              {0, 3, "", "", "rank 0 cannot join; 1 to 2 are allowed"}};
  for (const Refusal& refusal : refusals) {
    const SecretKey root_key(refusal.root_secret);
    const SecretKey member_key(refusal.member_secret);
    RootHandshake root(3, *refusal.root_secret != '\0' ? &root_key : nullptr);
    MemberHandshake member(refusal.rank, refusal.size, *refusal.member_secret != '\0' ? &member_key : nullptr);
    const Outcome outcome = converse(root, member, kNobody);
    EXPECT_FALSE(outcome.root.accepted || outcome.member.accepted);
    EXPECT_EQ(outcome.root.refusal, refusal.reason);
    EXPECT_EQ(outcome.member.refusal, std::string("rank 0 refused: ") + refusal.reason);
  }
}

TEST(Handshake, RefusesARankThatHasCome) {
  for (const char* secret : {"", "open sesame"}) {
    const SecretKey key(secret);
    const SecretKey* pointer = *secret != '\0' ? &key : nullptr;
    RootHandshake root(3, pointer);
    MemberHandshake member(1, 3, pointer);
    EXPECT_EQ(converse(root, member, {true, true, false}).root.refusal, "rank 1 has already come");
  }
}

TEST(Handshake, DoesNotRevealWhoHasComeBeforeTheProof) {
  const SecretKey key("open sesame");
  const SecretKey guess("a guess");
  RootHandshake root(3, &key);
  MemberHandshake member(1, 3, &guess);
  EXPECT_EQ(converse(root, member, {true, true, false}).root.refusal, "the secret of rank 1 is not that of rank 0");
}

TEST(Handshake, AReflectedProofIsWorthless) {
  const SecretKey key("open sesame");
  MemberHandshake member(1, 3, &key);
  Bytes challenge;
  append_frame(challenge, {.type = FrameType::kChallenge}, Nonce{});
  const HandshakeStep proof = member.receive(parse(challenge));
  ASSERT_EQ(parse(proof.reply).header.type, FrameType::kProof);
  Bytes accept;
  append_frame(accept, {.type = FrameType::kAccept}, parse(proof.reply).payload);
  const HandshakeStep step = member.receive(parse(accept));
  EXPECT_FALSE(step.accepted);
  EXPECT_EQ(step.refusal, "rank 0 did not prove that it knows the secret");
}

TEST(Handshake, AMemberWithASecretInsistsOnAProof) {
  const SecretKey key("open sesame");
  for (const std::size_t length : {std::size_t{0}, std::size_t{31}, wire::kProofBytes}) {
    MemberHandshake member(1, 3, &key);
    Bytes accept;
    append_frame(accept, {.type = FrameType::kAccept}, Bytes(length));
    const HandshakeStep step = member.receive(parse(accept));
    EXPECT_FALSE(step.accepted);
    EXPECT_EQ(step.refusal, "rank 0 did not prove that it knows the secret");
  }
}

TEST(Handshake, AnOldConversationCannotBeReplayed) {
  const SecretKey key("open sesame");
  MemberHandshake member(1, 3, &key);
  const Bytes hello = member.hello();
  RootHandshake first(3, &key);
  const HandshakeStep challenge = first.receive(parse(hello), kNobody);
  const HandshakeStep proof = member.receive(parse(challenge.reply));
  EXPECT_TRUE(first.receive(parse(proof.reply), kNobody).accepted);
  RootHandshake second(3, &key);
  static_cast<void>(second.receive(parse(hello), kNobody));
  const HandshakeStep replayed = second.receive(parse(proof.reply), kNobody);
  EXPECT_FALSE(replayed.accepted);
  EXPECT_EQ(replayed.refusal, "the secret of rank 1 is not that of rank 0");
}

TEST(Handshake, FramesOutOfTurnAreRefused) {
  const SecretKey key("open sesame");
  Bytes proof;
  append_frame(proof, {.type = FrameType::kProof, .rank = 1}, Proof{});
  RootHandshake root(3, &key);
  EXPECT_EQ(root.receive(parse(proof), kNobody).refusal, "a frame of type 3 out of turn");
  MemberHandshake member(1, 3, &key);
  EXPECT_EQ(member.receive(parse(member.hello())).refusal, "rank 0 sent a frame of type 1 out of turn");
  Bytes challenge;
  append_frame(challenge, {.type = FrameType::kChallenge}, Nonce{});
  EXPECT_FALSE(member.receive(parse(challenge)).reply.empty());
  EXPECT_EQ(member.receive(parse(challenge)).refusal, "rank 0 sent a frame of type 2 out of turn");
}

TEST(Secret, EveryPartOfTheTranscriptIsBoundIntoTheProof) {
  const SecretKey key("open sesame");
  const Transcript transcript{.rank = 1, .size = 3, .member_nonce = make_nonce(), .root_nonce = make_nonce()};
  const Proof proof = key.prove(Role::kMember, transcript);
  EXPECT_TRUE(key.verify(proof, Role::kMember, transcript));
  EXPECT_FALSE(key.verify(proof, Role::kRoot, transcript));
  Transcript other = transcript;
  other.rank = 2;
  EXPECT_FALSE(key.verify(proof, Role::kMember, other));
  other = transcript;
  other.size = 4;
  EXPECT_FALSE(key.verify(proof, Role::kMember, other));
  other = transcript;
  std::swap(other.member_nonce, other.root_nonce);
  EXPECT_FALSE(key.verify(proof, Role::kMember, other));
  EXPECT_FALSE(SecretKey("open barley").verify(proof, Role::kMember, transcript));
}

TEST(Secret, NoncesDiffer) { EXPECT_NE(make_nonce(), make_nonce()); }

}  // namespace
}  // namespace crossdock::bootstrap
