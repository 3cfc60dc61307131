// The low-latency job with MPI_Alltoallv: a row travels once to each rank and is spread over the blocks of its experts
// there; the row of each expert travels back, is weighted and summed.
#pragma once

#include <mpi.h>

#include "alltoallv.hpp"
#include "verify_low_latency.hpp"

namespace peers {

class LowLatency final : public Exchange {
 public:
  explicit LowLatency(const Job& job);
  ~LowLatency() override;

  void dispatch() override;
  void run_expert() override;
  void combine() override;
  [[nodiscard]] std::size_t payload_rows() const override;
  [[nodiscard]] bool verify() override;

 private:
  void place_rows();
  void spread_rows();
  void pack_answers();
  void mark_answers();
  [[nodiscard]] std::byte* block_row(const Memory& blocks, std::size_t place) const;
  [[nodiscard]] PackedRows packed() const;

  Job job_;
  Alltoallv wire_;  // how rows get here, one for each token and rank
  std::size_t first_expert_;
  std::size_t rows_per_expert_;  // places: ranks * tokens
  std::vector<int> row_counts_;  // [local experts]
  /// Of received rows one after the other: the places in the blocks, counted through all blocks, that each is copied
  /// to.
  std::vector<std::size_t> places_;
  std::vector<std::size_t> first_place_;  // [received rows + 1], where each row's places begin
  std::vector<int> answer_counts_;        // [ranks], rows that go back to each source
  std::vector<int> return_offsets_;       // [ranks], in rows, of what comes back
  Memory blocks_;                         // [local experts, rows_per_expert, hidden]
  Memory expert_blocks_;                  // the same of an expert that copies
  std::byte* expert_output_ = nullptr;    // what combine reads
  Memory answers_;                        // packed for their sources
  Memory returned_;
  MPI_Datatype row_type_ = MPI_DATATYPE_NULL;
};

}  // namespace peers
