// Throughput combine: every token's owner reads the contributions where they lie and sums them.
#pragma once

#include "backend/backend.hpp"
#include "backend/host/host_backend.hpp"

namespace crossdock::host {

class Combine {
 public:
  Combine(Group& group, const backend::CombineRequest& request) : group_(group), request_(request) {}

  Buffer::PhaseTimes run(const Deadline& deadline);

 private:
  /// Makes sure that the others can read `tensor`: itself if it lies in the arena, else a copy there.
  [[nodiscard]] Tensor stage(const Tensor& tensor) const;
  void announce(const Deadline& deadline);
  void await_announcements(const Deadline& deadline);
  void reduce_rows() const;
  void reduce_weights() const;

  Group& group_;
  const backend::CombineRequest& request_;
  Tensor x_;  ///< where the others read
  std::optional<Tensor> weights_;
};

}  // namespace crossdock::host
