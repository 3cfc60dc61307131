// The job with MPI_Alltoallv: pack, exchange, and back.
#pragma once

#include <mpi.h>

#include "exchange.hpp"
#include "memory.hpp"

namespace peers {

/// Rows that a rank sends to itself go through MPI like all others, or are packed straight into their place.
enum class SelfRows { kThroughMpi, kDirect };

class Alltoallv final : public Exchange {
 public:
  Alltoallv(const Job& job, SelfRows self_rows, Records records = Records::kIdsAndWeights);
  ~Alltoallv() override;

  void dispatch() override;
  void run_expert() override;
  void combine() override;
  [[nodiscard]] std::size_t payload_rows() const override { return job_.routing->places.size(); }
  [[nodiscard]] bool verify() override;
  [[nodiscard]] Received received() const;

 private:
  void exchange_counts();
  void pack();
  [[nodiscard]] bool keeps(std::size_t destination) const;
  [[nodiscard]] std::byte* row_at(const Memory& memory, int index) const;

  Job job_;
  SelfRows self_rows_;
  Records records_;
  std::size_t record_words_;
  MPI_Datatype row_type_ = MPI_DATATYPE_NULL;
  MPI_Datatype record_type_ = MPI_DATATYPE_NULL;
  std::vector<int> send_offsets_;    // [ranks], in rows
  std::vector<int> receive_counts_;  // [ranks]
  std::vector<int> receive_offsets_;
  std::vector<int> wire_send_counts_;  // what MPI is told, without the rows that stay
  std::vector<int> wire_receive_counts_;
  Memory send_rows_;  // packed rows in dispatch, returned rows in combine: equal shapes, never in use together
  Memory send_records_;
  Memory received_rows_;
  Memory received_records_;
  Memory expert_rows_;                        // of an expert that copies
  const std::byte* expert_output_ = nullptr;  // what combine reads
};

}  // namespace peers
