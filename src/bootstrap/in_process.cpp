#include "bootstrap/in_process.hpp"

#include <utility>

#include "base/deadline.hpp"
#include "base/error.hpp"
#include "bootstrap/limits.hpp"

namespace crossdock {

namespace bootstrap {

InProcessGroup::InProcessGroup(int size)
    : round_(std::make_shared<Round>(1, size)), gone_(static_cast<std::size_t>(size)) {}

std::vector<Bytes> InProcessGroup::exchange(int rank, Operation operation, std::span<const std::byte> mine,
                                            Milliseconds timeout) {
  require(mine.size() <= kMaxContribution, "rank {} contributes {} bytes to all_gather; at most {} are allowed", rank,
          mine.size(), kMaxContribution);
  const Deadline deadline(timeout);
  std::unique_lock lock(mutex_);
  if (failure_) throw to_error(*failure_);
  const auto round = round_;
  enter(*round, rank, operation, mine);
  fail_if_somebody_left(*round);
  const auto settled = [&] { return round->complete || failure_.has_value(); };
  if (!changed_.wait_for(lock, deadline.left(), settled)) {
    fail(missing_ranks({operation, round->number, round->arrived}, timeout));
  }
  if (!round->complete) throw to_error(*failure_);
  lock.unlock();
  return round->contributions;
}

void InProcessGroup::enter(Round& round, int rank, Operation operation, std::span<const std::byte> mine) {
  if (round.present == 0) round.operation = operation;
  if (round.operation != operation) {
    fail(different_calls({round.operation, round.number, round.arrived}, rank, operation));
    throw to_error(*failure_);
  }
  const auto index = static_cast<std::size_t>(rank);
  round.contributions[index].assign(mine.begin(), mine.end());
  round.arrived[index] = true;
  if (++round.present < size()) return;
  round.complete = true;
  round_ = std::make_shared<Round>(round.number + 1, size());
  changed_.notify_all();
}

void InProcessGroup::fail_if_somebody_left(const Round& round) {
  if (round.present == 0) return;
  for (std::size_t rank = 0; rank < gone_.size(); ++rank) {
    if (gone_[rank] && !round.arrived[rank]) {
      fail(lost_rank({round.operation, round.number, round.arrived}, static_cast<int>(rank), "left the group"));
      return;
    }
  }
}

void InProcessGroup::fail(Failure failure) {
  if (!failure_) failure_ = std::move(failure);
  changed_.notify_all();
}

void InProcessGroup::leave(int rank) {
  const std::lock_guard lock(mutex_);
  gone_[static_cast<std::size_t>(rank)] = true;
  fail_if_somebody_left(*round_);
}

namespace {

class InProcessBootstrap final : public Bootstrap {
 public:
  InProcessBootstrap(std::shared_ptr<InProcessGroup> group, int rank) : group_(std::move(group)), rank_(rank) {}
  InProcessBootstrap(const InProcessBootstrap&) = delete;
  InProcessBootstrap& operator=(const InProcessBootstrap&) = delete;
  ~InProcessBootstrap() override { group_->leave(rank_); }

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override { return group_->size(); }
  [[nodiscard]] std::vector<Bytes> all_gather(std::span<const std::byte> mine, Milliseconds timeout) override {
    return group_->exchange(rank_, Operation::kAllGather, mine, timeout);
  }
  void barrier(Milliseconds timeout) override {
    static_cast<void>(group_->exchange(rank_, Operation::kBarrier, {}, timeout));
  }

 private:
  std::shared_ptr<InProcessGroup> group_;
  int rank_;
};

}  // namespace

}  // namespace bootstrap

std::vector<std::shared_ptr<Bootstrap>> make_in_process_bootstraps(int size) {
  require(size >= 1 && size <= bootstrap::kMaxSize, "a group of {} ranks; 1 to {} are allowed", size,
          bootstrap::kMaxSize);
  const auto group = std::make_shared<bootstrap::InProcessGroup>(size);
  std::vector<std::shared_ptr<Bootstrap>> result;
  result.reserve(static_cast<std::size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    result.push_back(std::make_shared<bootstrap::InProcessBootstrap>(group, rank));
  }
  return result;
}

}  // namespace crossdock
