#include "alltoallv.hpp"

#include <array>
#include <cstring>

#include "pack.hpp"
#include "sum.hpp"
#include "verify.hpp"

namespace peers {

Alltoallv::Alltoallv(const Job& job, SelfRows self_rows, Records records)
    : job_(job),
      self_rows_(self_rows),
      records_(records),
      record_words_(record_words(*job.options, records)),
      send_offsets_(offsets_of(job.routing->counts)),
      receive_counts_(static_cast<std::size_t>(job.ranks)) {
  MPI_Type_contiguous(static_cast<int>(job.options->row_bytes()), MPI_BYTE, &row_type_);
  MPI_Type_commit(&row_type_);
  MPI_Type_contiguous(static_cast<int>(record_words_), MPI_INT32_T, &record_type_);
  MPI_Type_commit(&record_type_);
  exchange_counts();
  const auto sent = static_cast<std::size_t>(sum_of(job.routing->counts));
  const auto received = static_cast<std::size_t>(sum_of(receive_counts_));
  send_rows_ = Memory(sent * job.options->row_bytes(), job.options->pages);
  send_records_ = Memory(sent * record_words_ * sizeof(std::int32_t), job.options->pages);
  received_rows_ = Memory(received * job.options->row_bytes(), job.options->pages);
  received_records_ = Memory(received * record_words_ * sizeof(std::int32_t), job.options->pages);
  if (job.options->expert == Expert::kCopy)
    expert_rows_ = Memory(received * job.options->row_bytes(), job.options->pages);
  expert_output_ = (job.options->expert == Expert::kCopy ? expert_rows_ : received_rows_).data();
}

Alltoallv::~Alltoallv() {
  MPI_Type_free(&row_type_);
  MPI_Type_free(&record_type_);
}

bool Alltoallv::keeps(std::size_t destination) const {
  return self_rows_ == SelfRows::kDirect && destination == static_cast<std::size_t>(job_.rank);
}

std::byte* Alltoallv::row_at(const Memory& memory, int index) const {
  return memory.data() + static_cast<std::size_t>(index) * job_.options->row_bytes();
}

void Alltoallv::exchange_counts() {
  MPI_Alltoall(job_.routing->counts.data(), 1, MPI_INT, receive_counts_.data(), 1, MPI_INT, MPI_COMM_WORLD);
  receive_offsets_ = offsets_of(receive_counts_);
  wire_send_counts_ = job_.routing->counts;
  wire_receive_counts_ = receive_counts_;
  if (self_rows_ == SelfRows::kDirect) {
    wire_send_counts_[static_cast<std::size_t>(job_.rank)] = 0;
    wire_receive_counts_[static_cast<std::size_t>(job_.rank)] = 0;
  }
}

void Alltoallv::pack() {
  std::array<std::byte*, kMostRanks> rows;
  std::array<std::int32_t*, kMostRanks> records;
  for (std::size_t d = 0; d < static_cast<std::size_t>(job_.ranks); ++d) {
    const bool kept = keeps(d);
    const int first = kept ? receive_offsets_[d] : send_offsets_[d];
    rows[d] = row_at(kept ? received_rows_ : send_rows_, first);
    records[d] = reinterpret_cast<std::int32_t*>((kept ? received_records_ : send_records_).data()) +
                 static_cast<std::size_t>(first) * record_words_;
  }
  pack_records(job_, records_, records);
  pack_rows(job_, rows);
}

void Alltoallv::dispatch() {
  exchange_counts();
  pack();
  MPI_Alltoallv(send_records_.data(), wire_send_counts_.data(), send_offsets_.data(), record_type_,
                received_records_.data(), wire_receive_counts_.data(), receive_offsets_.data(), record_type_,
                MPI_COMM_WORLD);
  MPI_Alltoallv(send_rows_.data(), wire_send_counts_.data(), send_offsets_.data(), row_type_, received_rows_.data(),
                wire_receive_counts_.data(), receive_offsets_.data(), row_type_, MPI_COMM_WORLD);
}

void Alltoallv::run_expert() {
  if (job_.options->expert == Expert::kInPlace) return;
  const auto received = static_cast<std::size_t>(sum_of(receive_counts_));
  std::memcpy(expert_rows_.data(), received_rows_.data(), received * job_.options->row_bytes());
}

void Alltoallv::combine() {
  MPI_Alltoallv(expert_output_, wire_receive_counts_.data(), receive_offsets_.data(), row_type_, send_rows_.data(),
                wire_send_counts_.data(), send_offsets_.data(), row_type_, MPI_COMM_WORLD);
  std::array<const std::byte*, kMostRanks> returned;
  for (std::size_t d = 0; d < static_cast<std::size_t>(job_.ranks); ++d) {
    returned[d] = keeps(d) ? expert_output_ + static_cast<std::size_t>(receive_offsets_[d]) * job_.options->row_bytes()
                           : row_at(send_rows_, send_offsets_[d]);
  }
  sum_all_rows(job_, returned);
}

bool Alltoallv::verify() { return peers::verify(job_, received()); }

Received Alltoallv::received() const {
  return {received_rows_.data(), reinterpret_cast<const std::int32_t*>(received_records_.data()), &receive_counts_};
}

}  // namespace peers
