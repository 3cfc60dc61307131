#include <utility>

#include <fmt/format.h>

#include "base/error.hpp"
#include "bootstrap/socket.hpp"
#include "bootstrap/tcp.hpp"

namespace crossdock::bootstrap {

namespace {

/// How long rank 0 has to say whom it misses, after this rank's own deadline.
constexpr std::chrono::milliseconds kVerdictPatience{1000};

}  // namespace

TcpMember::TcpMember(const TcpBootstrapOptions& options, std::unique_ptr<Connection> root, const Deadline& deadline)
    : TcpBootstrap(options.rank, options.size), root_(std::move(root)) {
  const Frame frame = next_frame(Operation::kRendezvous, deadline);
  if (frame.header.type != FrameType::kStart) {
    fail_because_root(ErrorCode::kBootstrap, Operation::kRendezvous, "sent a frame out of turn");
  }
}

std::vector<Bytes> TcpMember::exchange(Operation operation, std::span<const std::byte> mine, const Deadline& deadline) {
  const bool gathers = operation == Operation::kAllGather;
  const FrameType type = gathers ? FrameType::kContribution : FrameType::kBarrier;
  Bytes frames;
  append_frame(frames, {.type = type, .rank = static_cast<std::uint32_t>(rank()), .round = round()}, mine);
  root_->send(std::move(frames));
  std::vector<Bytes> result;
  for (std::uint32_t from = 0; from < (gathers ? static_cast<std::uint32_t>(size()) : 1U); ++from) {
    Frame frame = next_frame(operation, deadline);
    if (frame.header.type != type || frame.header.rank != from || frame.header.round != round()) {
      fail_because_root(ErrorCode::kBootstrap, operation, "sent a frame out of turn");
    }
    result.push_back(std::move(frame.payload));
  }
  return result;
}

/// Turns every way in which rank 0 can fail into an error, so that what is returned is not a failure frame.
Frame TcpMember::next_frame(Operation operation, const Deadline& deadline) {
  try {
    auto frame = wait_for_frame(deadline);
    if (frame && frame->header.type != FrameType::kFailure) return std::move(*frame);
    if (frame) fail(parse_failure(*frame));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kFormat) throw;
    fail_because_root(ErrorCode::kBootstrap, operation, fmt::format("sent {}", error.what()));
  }
  if (root_->end()) fail_because_root(ErrorCode::kPeerLost, operation, *root_->end());
  fail_because_root(ErrorCode::kTimeout, operation,
                    fmt::format("did not come within {} ms", deadline.timeout().count()));
}

std::optional<Frame> TcpMember::wait_for_frame(const Deadline& deadline) {
  if (auto frame = wait_until(deadline); frame || root_->end()) return frame;
  Bytes frames;
  append_give_up(frames, rank(), round(), deadline.timeout());
  root_->send(std::move(frames));
  return wait_until(Deadline(kVerdictPatience));
}

/// Sends what is unsent meanwhile. Nothing if the time or the connection came to an end.
std::optional<Frame> TcpMember::wait_until(const Deadline& deadline) {
  while (true) {
    root_->flush();
    if (auto frame = root_->receive()) return frame;
    pollfd entry = root_->poll_entry();
    if (root_->end() || deadline.passed() || !poll_until({&entry, 1}, deadline)) return std::nullopt;
  }
}

void TcpMember::fail_because_root(ErrorCode code, Operation operation, const std::string& how) {
  const std::vector<bool> unknown(static_cast<std::size_t>(size()));
  Failure failure = lost_rank({operation, round(), unknown}, 0, how);
  failure.code = code;
  fail(std::move(failure));
}

}  // namespace crossdock::bootstrap
