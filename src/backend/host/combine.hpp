// Throughput combine: every token's owner reads the contributions where they lie and sums them.
#pragma once

#include "backend/backend.hpp"
#include "backend/host/host_backend.hpp"

namespace crossdock::host {

/// Backends of other devices say how rows are copied and summed.
class Combine {
 public:
  Combine(Group& group, const backend::CombineRequest& request) : group_(group), request_(request) {}
  Combine(const Combine&) = delete;
  Combine& operator=(const Combine&) = delete;
  virtual ~Combine() = default;

  Buffer::PhaseTimes run(const Deadline& deadline);

 protected:
  /// Copies a matrix whose rows are contiguous; returns when others may read the copy.
  virtual void copy_rows(const Tensor& from, const Tensor& to, const Deadline& deadline);
  /// Sums the rows (and weights) of this rank's tokens into the result; returns when nothing is read any more.
  virtual void reduce(const Deadline& deadline);
  [[nodiscard]] Group& group() const noexcept { return group_; }
  [[nodiscard]] const backend::CombineRequest& request() const noexcept { return request_; }

 private:
  /// Makes sure that the others can read `tensor`: itself if it lies in the arena, else a copy there.
  [[nodiscard]] Tensor stage(const Tensor& tensor, const Deadline& deadline);
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
