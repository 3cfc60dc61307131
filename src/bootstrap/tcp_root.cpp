#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/error.hpp"
#include "bootstrap/socket.hpp"
#include "bootstrap/tcp.hpp"

namespace crossdock::bootstrap {

namespace {

Operation operation_of(FrameType type) {
  return type == FrameType::kBarrier ? Operation::kBarrier : Operation::kAllGather;
}

}  // namespace

std::vector<Bytes> TcpRoot::exchange(Operation operation, std::span<const std::byte> mine, const Deadline& deadline) {
  const auto count = static_cast<std::size_t>(size());
  Collective collective{operation, std::vector<bool>(count), std::vector<Bytes>(count), {}};
  collective.contributions[0].assign(mine.begin(), mine.end());
  collective.arrived[0] = true;
  collect(collective, deadline);
  hand_out(collective, deadline);
  return std::move(collective.contributions);
}

void TcpRoot::collect(Collective& collective, const Deadline& deadline) {
  const auto complete = [&] { return std::count(collective.arrived.begin(), collective.arrived.end(), false) == 0; };
  while (true) {
    std::vector<pollfd> entries;  // entry r - 1 is for rank r
    for (int rank = 1; rank < size(); ++rank) {
      entries.push_back(members_[static_cast<std::size_t>(rank)]->poll_entry());
    }
    const bool ready = poll_until(entries, deadline);
    for (int rank = 1; rank < size(); ++rank) {
      if (entries[static_cast<std::size_t>(rank) - 1].revents != 0) read_from(rank, collective);
    }
    if (complete()) return;
    if (collective.given_up) fail_everywhere(missing_ranks(progress(collective), *collective.given_up));
    // Also when something was ready: a member that sends a byte now and then must not hold everybody up.
    if (!ready || deadline.passed()) fail_everywhere(missing_ranks(progress(collective), deadline.timeout()));
  }
}

void TcpRoot::read_from(int rank, Collective& collective) {
  Connection& member = *members_[static_cast<std::size_t>(rank)];
  try {
    while (auto frame = member.receive()) take(rank, std::move(*frame), collective);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kFormat) throw;
    fail_everywhere(lost_rank(progress(collective), rank, fmt::format("sent {}", error.what())));
  }
  if (member.end()) fail_everywhere(lost_rank(progress(collective), rank, *member.end()));
}

void TcpRoot::take(int rank, Frame frame, Collective& collective) {
  const auto index = static_cast<std::size_t>(rank);
  const FrameType type = frame.header.type;
  if (type == FrameType::kGiveUp) {
    // An older one crossed with the result that it asked for.
    if (frame.header.round == round()) collective.given_up = parse_give_up(frame);
    return;
  }
  const bool expected = type == FrameType::kContribution || type == FrameType::kBarrier;
  if (!expected || collective.arrived[index] || frame.header.round != round() || frame.header.rank != index) {
    fail_everywhere(lost_rank(progress(collective), rank,
                              fmt::format("sent a frame of type {} out of turn", static_cast<int>(type))));
  }
  if (operation_of(type) != collective.operation) {
    fail_everywhere(different_calls(progress(collective), rank, operation_of(type)));
  }
  collective.contributions[index] = std::move(frame.payload);
  collective.arrived[index] = true;
}

void TcpRoot::hand_out(const Collective& collective, const Deadline& deadline) {
  Bytes frames;
  if (collective.operation == Operation::kBarrier) {
    append_frame(frames, {.type = FrameType::kBarrier, .rank = 0, .round = round()});
  } else {
    for (std::size_t rank = 0; rank < collective.contributions.size(); ++rank) {
      append_frame(frames,
                   {.type = FrameType::kContribution, .rank = static_cast<std::uint32_t>(rank), .round = round()},
                   collective.contributions[rank]);
    }
  }
  send_to_all(members_, std::move(frames));
  // A member that breaks off here has made its contribution: the others complete this round and learn of it in the
  // next.
  if (flush_all(members_, deadline)) return;
  Collective taken{collective.operation, std::vector<bool>(members_.size()), {}, {}};
  taken.arrived[0] = true;
  for (std::size_t rank = 1; rank < members_.size(); ++rank) taken.arrived[rank] = !members_[rank]->has_unsent();
  fail_everywhere(missing_ranks(progress(taken), deadline.timeout()));
}

Progress TcpRoot::progress(const Collective& collective) const {
  return {collective.operation, round(), collective.arrived};
}

void TcpRoot::fail_everywhere(const Failure& failure) {
  announce_failure(members_, failure);
  fail(failure);
}

}  // namespace crossdock::bootstrap
