// One way to do the job with MPI. Every rank calls the same functions in the same order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "options.hpp"
#include "routing.hpp"

namespace peers {

/// What every variant is given. The pointers outlive the exchange.
struct Job {
  const Options* options;
  int rank;
  int ranks;
  const Routing* routing;
  const std::byte* x;  // [tokens, hidden] bfloat16, aligned to 64 bytes
  std::byte* result;   // [tokens, hidden] bfloat16, aligned to 64 bytes: what combine gives
};

/// A record goes with each row: the source token, topk local expert ids (-1 elsewhere), perhaps topk weights (0 there).
enum class Records { kIds, kIdsAndWeights };

[[nodiscard]] inline std::size_t record_words(const Options& options, Records records) {
  return 1 + options.topk * (records == Records::kIdsAndWeights ? 2 : 1);
}

/// What dispatch gave to this rank, ordered by (source rank, source token).
struct Received {
  const std::byte* rows;           // [sum of counts, hidden] bfloat16
  const std::int32_t* records;     // [sum of counts, record_words]; weights by their bits
  const std::vector<int>* counts;  // [ranks], rows from each source
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void dispatch() = 0;
  /// Between dispatch and combine: the expert of the options.
  virtual void run_expert() = 0;
  virtual void combine() = 0;
  /// Rows that carry payload from this rank, itself included, in one direction.
  [[nodiscard]] virtual std::size_t payload_rows() const = 0;
  /// Collective. Whether what this rank has from the last dispatch and combine is right, bit for bit; says on standard
  /// error what is not.
  [[nodiscard]] virtual bool verify() = 0;
};

}  // namespace peers
