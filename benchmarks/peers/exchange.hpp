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

/// A record goes with each row: the source token, topk local expert ids (-1 elsewhere), topk weights (0 there).
[[nodiscard]] inline std::size_t record_words(const Options& options) { return 1 + 2 * options.topk; }

/// What dispatch gave to this rank, ordered by (source rank, source token).
struct Received {
  const std::byte* rows;           // [sum of counts, hidden] bfloat16
  const std::int32_t* records;     // [sum of counts, record_words]; weights by their bits
  const std::vector<int>* counts;  // [ranks], rows from each source
};

/// Where an expert reads its input and writes its output, for round trips. Outside of them the expert is the identity
/// in place and costs nothing.
struct ExpertRows {
  const std::byte* input;
  std::byte* output;
  std::size_t bytes;
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void dispatch() = 0;
  virtual void combine() = 0;
  /// From here on combine takes the output of an expert that writes to memory of its own.
  virtual ExpertRows separate_expert() = 0;
  [[nodiscard]] virtual Received received() const = 0;
};

}  // namespace peers
