// Throughput combine: every token's owner reads the contributions where they lie and sums them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

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
  /// The rows to sum: of the handle's those of ranks that take part.
  [[nodiscard]] const plan::RouteTable& route() const noexcept { return route_ ? *route_ : request_.handle->route; }
  /// [R] ranks that this combine goes without, or empty.
  [[nodiscard]] const std::vector<bool>& excluded() const noexcept { return excluded_; }
  /// Where a rank's rows lie in its window; not defined for ranks that take no part.
  struct Contribution {
    std::uint64_t x_offset = 0;
    std::uint64_t x_stride = 0;
    std::uint64_t weights_offset = 0;
  };
  [[nodiscard]] const Contribution& contribution(int rank) const {
    return contributions_[static_cast<std::size_t>(rank)];
  }

 private:
  /// Makes sure that the others can read `tensor`: itself if it lies in the arena, else a copy there.
  [[nodiscard]] Tensor stage(const Tensor& tensor, const Deadline& deadline);
  void announce(const Deadline& deadline);
  void await_announcements(const Deadline& deadline);
  [[nodiscard]] Buffer::PhaseTimes run_phases(const Deadline& deadline);
  void reduce_rows() const;
  void reduce_weights() const;
  void return_weights() const;

  Group& group_;
  const backend::CombineRequest& request_;
  bool is_announced_ = false;
  std::vector<Contribution> contributions_;  ///< [R]
  std::vector<bool> excluded_;               ///< [R], or empty
  std::optional<plan::RouteTable> route_;    ///< if it is not all of the handle's
  Tensor x_;                                 ///< where the others read
  std::optional<Tensor> weights_;
};

}  // namespace crossdock::host
