#include "backend/cuda/ordered_send.hpp"

#include <cstring>

#include "backend/cuda/cuda_error.hpp"

namespace crossdock::cuda {

namespace {

constexpr std::uint64_t kPatienceNs = 200'000;  ///< of a kernel: it keeps multiprocessors from others

}  // namespace

OrderedSend::~OrderedSend() {
  if (ahead_) give_order(*ahead_, {}, device::Order::kCallOff);
}

void OrderedSend::launch_ahead() {
  const auto ticket = stream_->take_ticket();
  launch(*ticket);
  ticket->outlives_owner = true;
  ahead_ = ticket;
}

void OrderedSend::run(const device::SendTable& table, const Deadline& deadline) {
  if (ahead_) {
    give_order(*ahead_, table, device::Order::kCarryOut);
    const bool is_through = stream_->await(*ahead_, deadline);
    ahead_.reset();
    if (is_through) return;
  }
  const auto launch_ordered = [&](const CommunicationStream::Ticket& ticket) {
    give_order(ticket, table, device::Order::kCarryOut);
    launch(ticket);
  };
  stream_->run(launch_ordered, deadline);
}

void OrderedSend::launch(const CommunicationStream::Ticket& ticket) {
  args_.completion = ticket.completion;
  const device::Order order{ticket.order, stream_->passed_on(), kPatienceNs, ticket.number()};
  check(device::launch_send(args_, order, num_sms_, stream_->get()), "dispatch: send");
}

void OrderedSend::give_order(const CommunicationStream::Ticket& ticket, const device::SendTable& table,
                             std::uint32_t verdict) const noexcept {
  const int num_words = device::SendTable::num_words(args_.num_ranks);
  const auto* from = reinterpret_cast<const std::byte*>(&table);
  for (int i = 0; i < num_words; ++i, from += sizeof(std::uint32_t)) {
    std::uint32_t value = 0;
    std::memcpy(&value, from, sizeof(value));
    ticket.give(i, value);
  }
  ticket.give(num_words, verdict);
}

}  // namespace crossdock::cuda
