// The job with MPI_Put and MPI_Get: rows go straight from x to their place, contributions are fetched and summed.
#pragma once

#include <mpi.h>

#include "exchange.hpp"
#include "memory.hpp"

namespace peers {

/// Memory that the other ranks put to and get from, locked for all of them as long as it lives.
/// MPI_Win_allocate_shared, because with MPI_Win_allocate Open MPI 4.1 is slower, and MPICH 4.0 returns from
/// MPI_Win_flush_all before all that MPI_Get asked for has come.
class Window {
 public:
  Window() = default;
  Window(std::size_t bytes, std::size_t unit_bytes);
  Window(Window&& other) noexcept;
  Window& operator=(Window&& other) noexcept;
  ~Window();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] MPI_Win handle() const noexcept { return window_; }

 private:
  std::byte* data_ = nullptr;
  MPI_Win window_ = MPI_WIN_NULL;
};

class OneSided final : public Exchange {
 public:
  explicit OneSided(const Job& job);
  ~OneSided() override;

  void dispatch() override;
  void run_expert() override;
  void combine() override;
  [[nodiscard]] std::size_t payload_rows() const override { return job_.routing->places.size(); }
  [[nodiscard]] bool verify() override;

 private:
  void exchange_counts();
  void put_rows();
  void put_records();
  void get_and_sum(std::size_t first_token, std::size_t last_token);

  Job job_;
  std::size_t record_words_;
  MPI_Datatype row_type_ = MPI_DATATYPE_NULL;
  std::vector<int> matrix_;          // [ranks, ranks]: rows from each source to each destination
  std::vector<int> target_offsets_;  // [ranks]: where this rank's rows begin at each destination
  std::vector<int> receive_counts_;  // [ranks]
  std::vector<int> send_offsets_;    // [ranks], of the packed records
  Memory send_records_;
  Memory fetched_;  // contributions to a few tokens, small enough to stay in the cache
  Window rows_;
  Window records_;
  Window expert_rows_;                    // of an expert that copies
  MPI_Win expert_window_ = MPI_WIN_NULL;  // what combine reads
};

}  // namespace peers
