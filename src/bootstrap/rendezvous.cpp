#include "bootstrap/rendezvous.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "base/logging.hpp"
#include "bootstrap/socket.hpp"

namespace crossdock::bootstrap {

namespace {

constexpr std::size_t kMaxRefusalsQuoted = 4;

}  // namespace

Rendezvous::Rendezvous(const TcpBootstrapOptions& options, const SecretKey* key, RendezvousLimits limits)
    : key_(key),
      limits_(limits),
      deadline_(options.timeout),
      listener_(listen_at(options.address, options.port)),
      arrived_(static_cast<std::size_t>(options.size)),
      members_(static_cast<std::size_t>(options.size)) {
  arrived_[0] = true;
}

Members Rendezvous::run() {
  while (!complete()) {
    if (deadline_.passed()) fail(missing(deadline_.timeout()));
    wait();
    for (Candidate& candidate : candidates_) serve(candidate);
    for (Candidate& candidate : candidates_) expire(candidate);
    candidates_.remove_if([](const Candidate& candidate) { return candidate.done; });
    for (int rank = 1; rank < static_cast<int>(members_.size()); ++rank) watch(rank);
    accept_candidates();
  }
  start();
  return std::move(members_);
}

bool Rendezvous::complete() const { return std::find(arrived_.begin(), arrived_.end(), false) == arrived_.end(); }

/// Until something happens or somebody's time is up.
void Rendezvous::wait() const {
  std::vector<pollfd> entries{{listener_.get(), POLLIN, 0}};
  auto patience = deadline_.left();
  for (const Candidate& candidate : candidates_) {
    entries.push_back(candidate.connection->poll_entry());
    patience = std::min(patience, candidate.deadline.left());
  }
  for (const auto& member : members_) {
    if (member) entries.push_back(member->poll_entry());
  }
  static_cast<void>(poll_until(entries, Deadline(patience)));
}

/// Some of those who wait, so that handshakes go on while many connect.
void Rendezvous::accept_candidates() {
  constexpr int kMaxAtOnce = 64;
  for (int count = 0; count < kMaxAtOnce; ++count) {
    Accepted accepted = accept_from(listener_);
    if (accepted.error != 0) {
      if (candidates_.empty()) throw system_error("rank 0 cannot accept a connection", accepted.error).with_rank(0);
      return make_room();
    }
    if (!accepted.socket.valid()) return;
    if (candidates_.size() >= limits_.max_candidates) make_room();
    auto connection = std::make_unique<Connection>(std::move(accepted.socket), std::move(accepted.address));
    candidates_.push_back(
        {std::move(connection), RootHandshake(static_cast<int>(members_.size()), key_), Deadline(limits_.handshake)});
  }
}

/// Those who are not strangers finish in milliseconds, so the oldest candidate is the one to miss least.
void Rendezvous::make_room() {
  refuse(candidates_.front(), "too many connections at once", {});
  candidates_.pop_front();
}

void Rendezvous::serve(Candidate& candidate) {
  Connection& connection = *candidate.connection;
  try {
    connection.flush();
    while (!candidate.done) {
      const auto frame = connection.receive();
      if (!frame) break;
      step(candidate, *frame);
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kFormat) throw;
    refuse(candidate, error.what(), connection.reader().recognised() ? make_reject(error.what()) : Bytes{});
    return;
  }
  if (!candidate.done && connection.end()) refuse(candidate, *connection.end() + " during the handshake", {});
}

void Rendezvous::step(Candidate& candidate, const Frame& frame) {
  HandshakeStep step = candidate.handshake.receive(frame, arrived_);
  if (!step.refusal.empty()) return refuse(candidate, step.refusal, std::move(step.reply));
  candidate.connection->send(std::move(step.reply));
  if (!step.accepted) return;
  const auto rank = static_cast<std::size_t>(candidate.handshake.rank());
  logger().debug("bootstrap: rank {} has come from {}", rank, candidate.connection->address());
  candidate.connection->reader().set_phase(Phase::kGroup);
  members_[rank] = std::move(candidate.connection);
  arrived_[rank] = true;
  candidate.done = true;
}

void Rendezvous::expire(Candidate& candidate) {
  if (candidate.done || !candidate.deadline.passed()) return;
  refuse(candidate, fmt::format("no handshake within {} ms", limits_.handshake.count()), {});
}

/// A member has nothing to say yet, unless it gives up.
void Rendezvous::watch(int rank) {
  Connection* member = members_[static_cast<std::size_t>(rank)].get();
  if (member == nullptr) return;
  const Progress progress{Operation::kRendezvous, 0, arrived_};
  try {
    const auto frame = member->receive();
    if (frame && frame->header.type == FrameType::kGiveUp) fail(missing(parse_give_up(*frame)));
    if (frame) fail(lost_rank(progress, rank, "sent a frame out of turn"));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kFormat) throw;
    fail(lost_rank(progress, rank, fmt::format("sent {}", error.what())));
  }
  if (member->end()) fail(lost_rank(progress, rank, *member->end()));
}

void Rendezvous::start() {
  Bytes frames;
  append_frame(frames, {.type = FrameType::kStart});
  send_to_all(members_, std::move(frames));
  static_cast<void>(flush_all(members_, deadline_));
  for (Candidate& candidate : candidates_) {
    const std::string reason = "all ranks have already come";
    refuse(candidate, reason, candidate.connection->reader().recognised() ? make_reject(reason) : Bytes{});
  }
}

void Rendezvous::refuse(Candidate& candidate, const std::string& reason, Bytes answer) {
  const std::string text = fmt::format("{}: {}", candidate.connection->address(), reason);
  logger().warn("bootstrap: refused {}", text);
  refusals_.push_back(text);
  if (refusals_.size() > kMaxRefusalsQuoted) refusals_.pop_front();
  // A reject frame always fits the buffer of a socket that has sent next to nothing.
  if (!answer.empty()) candidate.connection->send(std::move(answer));
  candidate.done = true;
}

Failure Rendezvous::missing(Milliseconds timeout) const {
  Failure result = missing_ranks({Operation::kRendezvous, 0, arrived_}, timeout);
  if (!refusals_.empty()) result.text += fmt::format("; refused: {}", fmt::join(refusals_, "; "));
  return result;
}

void Rendezvous::fail(const Failure& failure) const {
  announce_failure(members_, failure);
  throw to_error(failure);
}

}  // namespace crossdock::bootstrap
