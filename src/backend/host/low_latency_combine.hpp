// Low-latency combine: every token's owner reads its experts' rows where they lie and sums them with their weights.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "backend/host/host_backend.hpp"

namespace crossdock::host {

class LowLatencyCombine final : public backend::ReceiveOperation {
 public:
  LowLatencyCombine(std::shared_ptr<Group> group, const backend::LowLatencyCombineRequest& request)
      : group_(std::move(group)), request_(request) {}

  void send(const Deadline& deadline);
  void receive(const Deadline& deadline) override;
  void abandon() noexcept override;

 private:
  /// x itself if it lies in the arena, else a slab of the same shape with the used rows.
  [[nodiscard]] Tensor stage() const;
  void reduce() const;

  std::shared_ptr<Group> group_;
  backend::LowLatencyCombineRequest request_;
  Tensor x_;  ///< where the others read
};

}  // namespace crossdock::host
