// The kernel that sends the rows of a dispatch. It may be launched before the host knows where they go, so that it has
// started by then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "backend/cuda/communication_stream.hpp"
#include "backend/cuda/device/send.hpp"
#include "base/deadline.hpp"

namespace crossdock::cuda {

/// Of one dispatch and one thread at a time. Throws kSystem if the kernel cannot be launched.
class OrderedSend {
 public:
  OrderedSend(std::shared_ptr<CommunicationStream> stream, const device::SendArgs& args, int num_sms)
      : stream_(std::move(stream)), args_(args), num_sms_(num_sms) {}
  OrderedSend(const OrderedSend&) = delete;
  OrderedSend& operator=(const OrderedSend&) = delete;
  /// Ends a kernel that was launched ahead and not used.
  ~OrderedSend();

  /// Launches the kernel for run(). If that takes longer than a kernel waits, it was in vain.
  void launch_ahead();
  /// Sends the rows, and waits as CommunicationStream::run does.
  void run(const device::SendTable& table, const Deadline& deadline);

  /// Words of an order.
  [[nodiscard]] static constexpr std::size_t order_words(int num_ranks) {
    return static_cast<std::size_t>(device::SendTable::num_words(num_ranks)) + 1;
  }

 private:
  void launch(const CommunicationStream::Ticket& ticket);
  void give_order(const CommunicationStream::Ticket& ticket, const device::SendTable& table,
                  std::uint32_t verdict) const noexcept;

  std::shared_ptr<CommunicationStream> stream_;
  device::SendArgs args_;
  int num_sms_;
  std::shared_ptr<const CommunicationStream::Ticket> ahead_;  ///< of a kernel that waits, or null
};

}  // namespace crossdock::cuda
