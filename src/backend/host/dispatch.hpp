// Throughput dispatch: announce, place, send, receive.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.hpp"
#include "backend/host/host_backend.hpp"
#include "backend/host/stopwatch.hpp"
#include "plan/experts.hpp"

namespace crossdock::host {

/// One dispatch of one rank. Counts go first; then every sender knows each row's final place and writes it there once.
/// Backends of other devices say how rows are moved.
class Dispatch : public backend::DispatchOperation {
 public:
  Dispatch(std::shared_ptr<Group> group, const backend::DispatchRequest& request);

  /// Announces, and unless the row count is a given worst case, waits for the others' counts and places.
  void start(const Deadline& deadline);
  [[nodiscard]] const backend::DispatchResult& result() const override { return result_; }
  void finish(const Deadline& deadline) override;
  [[nodiscard]] Buffer::PhaseTimes times() const override { return times_; }

 protected:
  /// Stores this rank's rows, and what travels with them, at their destinations; returns when they are there.
  virtual void send(const Deadline& deadline);
  /// Ids and weights of the rows of a worst-case result that nobody sends.
  virtual void fill_unused_rows();
  /// Finds the rows that this rank sends in an expanded dispatch, whose groups are known.
  virtual void route_selections();
  /// Calls body(first row, number of rows) for the rows of a cached result that come from excluded ranks.
  template <class Body>
  void for_each_absent(const Body& body) const;
  [[nodiscard]] std::size_t row_bytes() const;
  [[nodiscard]] Group& group() const noexcept { return *group_; }
  [[nodiscard]] const backend::DispatchRequest& request() const noexcept { return request_; }
  [[nodiscard]] const DispatchHandle::State& handle() const noexcept { return handle_; }
  [[nodiscard]] const plan::ExpertMap& experts() const noexcept { return experts_; }
  /// The rows that this rank sends: of the handle's those to ranks that take part.
  [[nodiscard]] const plan::RouteTable& route() const noexcept { return route_ ? *route_ : handle_.route; }
  /// [R] ranks that this dispatch goes without, or empty.
  [[nodiscard]] const std::vector<bool>& excluded() const noexcept { return excluded_; }
  /// [R] where the rows go; not defined for excluded ranks.
  [[nodiscard]] const std::vector<Placement>& placements() const noexcept { return placements_; }

 private:
  [[nodiscard]] bool is_worst_case() const noexcept { return request_.num_worst_tokens.has_value(); }
  [[nodiscard]] std::size_t bytes_sent() const;
  void move_rows(const Deadline& deadline);
  void write_announcement();
  void exchange_counts(const Deadline& deadline);
  [[nodiscard]] bool takes_part(int rank) const {
    return excluded_.empty() || !excluded_[static_cast<std::size_t>(rank)];
  }
  void leave_out_excluded();
  void read_placements();
  /// After an error: others may be writing rows here.
  void keep_slabs(const Error& error);
  void read_counts();
  /// Of an expanded dispatch.
  void read_groups();
  /// Rows that a rank receives in a dispatch without a worst case.
  [[nodiscard]] std::int64_t num_rows_of(int rank) const;
  [[nodiscard]] std::int64_t num_result_rows() const {
    return request_.is_cached() ? handle_.num_recv_rows : num_rows_of(group_->rank());
  }
  void check_worst_case() const;
  void count_experts();
  void add_statistics() const;
  void allocate_results(std::int64_t num_rows);
  void write_placement();
  void place(const Deadline& deadline);
  [[nodiscard]] std::size_t bytes_received() const;
  void check_places() const;
  void send_rows() const;
  void send_extras() const;
  void clear_rows(std::int64_t begin, std::int64_t count) const;
  /// What an expanded dispatch says of its groups besides their rows: their ends, and padding.
  void finish_groups() const;
  /// Weights and source tokens of rows of an expanded dispatch that nobody sends.
  void fill_padding(std::int64_t begin, std::int64_t end) const;

  std::shared_ptr<Group> group_;
  backend::DispatchRequest request_;
  const DispatchHandle::State& handle_;
  plan::ExpertMap experts_;
  std::vector<bool> excluded_;             ///< [R], or empty
  std::optional<plan::RouteTable> route_;  ///< if it is not all of the handle's
  std::vector<Placement> placements_;      ///< [R]
  bool is_placed_ = false;                 ///< the others know where to write
  Tensor recv_src_idx_;
  backend::DispatchResult result_;
  Buffer::PhaseTimes times_;
};

template <class Body>
void Dispatch::for_each_absent(const Body& body) const {
  if (!request_.is_cached() || excluded_.empty()) return;
  const int rank = group_->rank();
  for (int src = 0; src < group_->num_ranks(); ++src) {
    if (takes_part(src)) continue;
    if (!handle_.is_expanded()) {
      body(handle_.counts.row_begin(src, rank), std::int64_t{handle_.counts.at(src, rank)});
      continue;
    }
    for (int e = experts_.begin(rank); e < experts_.begin(rank) + experts_.count(rank); ++e) {
      body(handle_.groups->row_begin(src, e), std::int64_t{handle_.groups->count(src, e)});
    }
  }
}

}  // namespace crossdock::host
