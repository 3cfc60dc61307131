// A small dispatch and combine whose results every rank can tell without an oracle and without asking the others.
#pragma once

#include <cstdint>
#include <vector>

#include <crossdock/buffer.hpp>

namespace crossdock::testing {

struct RoundTripShape {
  std::int64_t num_tokens = 4;  ///< of ranks 0, 3, 6, ...; their neighbours have one and two more, unless it is 0
  std::int64_t hidden = 24;
  int num_topk = 2;
  int num_experts = 6;
  DataType dtype = DataType::kBfloat16;
  DataType id_dtype = DataType::kInt64;
  std::int64_t num_scales = 0;
  bool transposed_scales = false;  ///< column-major
  int only_expert = -1;            ///< if not -1, where every selection goes
  int salt = 0;                    ///< other rows and another routing for each
  std::vector<int> masked{};       ///< ranks that the others go without
};

/// One rank's input and what must come of it. Elements of x are small whole numbers, so that every sum is exact.
class RoundTrip {
 public:
  RoundTrip(int rank, int num_ranks, const RoundTripShape& shape = {});

  /// Owns its tensors.
  [[nodiscard]] DispatchInput input() const;
  [[nodiscard]] std::int64_t num_recv_tokens() const;
  /// Throws std::runtime_error if it is not what the shape says. With a worst-case count there may be more rows.
  void check(const DispatchOutput& output) const;
  /// For a combine of rows equal to those received and of the received weights.
  void check(const CombineOutput& output) const;

 private:
  struct Row {
    int source = 0;
    std::int64_t token = 0;
  };

  [[nodiscard]] std::int64_t num_tokens(int rank) const;
  [[nodiscard]] std::int64_t id(int rank, std::int64_t token, int k) const;
  [[nodiscard]] float weight(int rank, std::int64_t token, int k) const;
  [[nodiscard]] int value(int rank, std::int64_t token, std::int64_t column) const;
  [[nodiscard]] int owner(std::int64_t id) const;
  [[nodiscard]] bool is_masked(int rank) const;
  [[nodiscard]] bool goes_to(int rank, std::int64_t token, int destination) const;
  [[nodiscard]] std::vector<Row> received() const;
  [[nodiscard]] Tensor make_x() const;
  [[nodiscard]] Tensor make_scales() const;
  void check_topk(const DispatchOutput& output, std::size_t row, const Row& from) const;

  int rank_;
  int num_ranks_;
  RoundTripShape shape_;
};

/// Returns the received rows as they came, without weights.
[[nodiscard]] CombineInput combine_of(const DispatchOutput& dispatched);
/// Sends the rows of `input` the same way again.
[[nodiscard]] CachedDispatchInput cached_of(const DispatchInput& input, const DispatchOutput& dispatched);

/// Collective: dispatches, returns the rows as they came, and checks both.
void run_round_trip(Buffer& buffer, const RoundTripShape& shape = {}, const OperationOptions& options = {});

}  // namespace crossdock::testing
