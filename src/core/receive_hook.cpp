#include "core/receive_hook.hpp"

#include <algorithm>
#include <utility>

#include "base/error.hpp"

namespace crossdock {

void ReceiveHook::operator()() const {
  if (!state_) throw make_error(ErrorCode::kState, "this hook has nothing to receive");
  state_->call();
}

void ReceiveHook::State::call() {
  if (was_called()) {
    throw make_error(ErrorCode::kState, "{}: the hook of epoch {} was called before, or its buffer is gone", name_,
                     epoch_);
  }
  std::exchange(operation_, nullptr)->receive(Deadline(timeout_));
}

std::string ReceiveHook::State::abandon() {
  if (const auto operation = std::exchange(operation_, nullptr)) operation->abandon();
  return fmt::format("{} of epoch {}", name_, epoch_);
}

ReceiveHook PendingHooks::add(std::shared_ptr<ReceiveHook::State> state) {
  std::erase_if(states_, [](const auto& s) { return s->was_called(); });
  states_.push_back(state);
  return ReceiveHook(std::move(state));
}

void PendingHooks::check_dropped() {
  const auto is_dropped = [](const auto& s) { return s.use_count() == 1 && !s->was_called(); };
  const auto dropped = std::ranges::find_if(states_, is_dropped);
  if (dropped == states_.end()) return;
  const std::string which = (*dropped)->abandon();
  states_.erase(dropped);
  throw make_error(ErrorCode::kState, "the hook of {} was dropped without a call; what it would have received is lost",
                   which);
}

void PendingHooks::check_oldest(const Next& next) const {
  for (const auto& state : states_) {
    if (state->epoch() + backend::kMostOpenOperations > next.epoch) return;
    if (state->was_called() || state.use_count() == 1 || state->epoch() < next.first_epoch) continue;
    throw make_error(
        ErrorCode::kState,
        "rank {}: {}: the hook of {} of epoch {} was not called yet; {} operations of a buffer may be open "
        "at a time, so it must be called first",
        next.rank, next.operation, state->name(), state->epoch(), backend::kMostOpenOperations)
        .with_rank(next.rank);
  }
}

void PendingHooks::abandon_all() noexcept {
  for (const auto& state : states_) {
    if (!state->was_called()) static_cast<void>(state->abandon());
  }
  states_.clear();
}

}  // namespace crossdock
