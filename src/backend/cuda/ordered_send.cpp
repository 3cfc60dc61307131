#include "backend/cuda/ordered_send.hpp"

#include <atomic>
#include <cstring>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device/stamped.hpp"

namespace crossdock::cuda {

namespace {

constexpr std::uint64_t kPatienceNs = 200'000;  ///< of a kernel: it keeps multiprocessors from others

std::uint32_t number_of(const CommunicationStream::Ticket& ticket) {
  return static_cast<std::uint32_t>(ticket.completion.value);
}

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
  const device::Order order{ticket.order, stream_->passed_on(), kPatienceNs, number_of(ticket)};
  check(device::launch_send(args_, order, num_sms_, stream_->get()), "dispatch: send");
}

void OrderedSend::give_order(const CommunicationStream::Ticket& ticket, const device::SendTable& table,
                             std::uint32_t verdict) const noexcept {
  const auto store = [&](int index, std::uint32_t value) {
    const std::uint64_t word = device::stamped(number_of(ticket), value);
    std::atomic_ref(ticket.order[index]).store(word, std::memory_order_release);
  };
  const int num_words = device::SendTable::num_words(args_.num_ranks);
  const auto* from = reinterpret_cast<const std::byte*>(&table);
  for (int i = 0; i < num_words; ++i, from += sizeof(std::uint32_t)) {
    std::uint32_t value = 0;
    std::memcpy(&value, from, sizeof(value));
    store(i, value);
  }
  store(num_words, verdict);
}

}  // namespace crossdock::cuda
