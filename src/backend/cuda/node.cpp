#include "backend/cuda/node.hpp"

#include <algorithm>

namespace crossdock::cuda {

namespace {

/// docs/cuda.md has what more of them bring.
constexpr int kDefaultMultiprocessors = 8;

}  // namespace

std::uint64_t Node::receivers(const plan::CountMatrix& counts, const std::vector<bool>& excluded) const {
  std::uint64_t result = 0;
  for (int rank = 0; rank < counts.num_ranks(); ++rank) {
    const bool takes_part = excluded.empty() || !excluded[static_cast<std::size_t>(rank)];
    if (takes_part && counts.at(group->rank(), rank) > 0) result |= std::uint64_t{1} << static_cast<unsigned>(rank);
  }
  return result;
}

int Node::num_sms(int of_config) const noexcept {
  return std::clamp(of_config > 0 ? of_config : kDefaultMultiprocessors, 1, stream->num_multiprocessors());
}

bool Node::launches_ahead(Completion completion, int sms_of_config) const noexcept {
  // Others go on in the background, with more operations behind them: those should not wait for what a kernel waits
  // for.
  return has_room_to_wait && completion == Completion::kSynchronous && num_sms(sms_of_config) <= queue->most_sms();
}

int Node::num_waiting_sms(int of_config) const noexcept { return std::min(num_sms(of_config), queue->most_sms()); }

}  // namespace crossdock::cuda
