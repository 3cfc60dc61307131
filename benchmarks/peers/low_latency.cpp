#include "low_latency.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "pack.hpp"
#include "stores.hpp"
#include "sum.hpp"

namespace peers {

LowLatency::LowLatency(const Job& job)
    : job_(job),
      wire_(job, SelfRows::kThroughMpi, Records::kIds),
      rows_per_expert_(static_cast<std::size_t>(job.ranks) * job.options->tokens),
      answer_counts_(static_cast<std::size_t>(job.ranks)),
      return_offsets_(offsets_of(job.routing->answer_counts)) {
  const ExpertBlocks experts{job.options->experts, static_cast<std::size_t>(job.ranks)};
  first_expert_ = experts.begin(static_cast<std::size_t>(job.rank));
  row_counts_.resize(experts.begin(static_cast<std::size_t>(job.rank) + 1) - first_expert_);
  const std::size_t most_answers = rows_per_expert_ * std::min(job.options->topk, row_counts_.size());
  places_.resize(most_answers);
  first_place_.resize(rows_per_expert_ + 1);

  const std::size_t row_bytes = job.options->row_bytes();
  const std::size_t block_bytes = row_counts_.size() * rows_per_expert_ * row_bytes;
  blocks_ = Memory(block_bytes, job.options->pages);
  if (job.options->expert == Expert::kCopy) expert_blocks_ = Memory(block_bytes, job.options->pages);
  expert_output_ = (job.options->expert == Expert::kCopy ? expert_blocks_ : blocks_).data();
  answers_ = Memory(most_answers * row_bytes, job.options->pages);
  returned_ = Memory(job.options->tokens * job.options->topk * row_bytes, job.options->pages);
  MPI_Type_contiguous(static_cast<int>(row_bytes), MPI_BYTE, &row_type_);
  MPI_Type_commit(&row_type_);
}

LowLatency::~LowLatency() { MPI_Type_free(&row_type_); }

std::byte* LowLatency::block_row(const Memory& blocks, std::size_t place) const {
  return blocks.data() + place * job_.options->row_bytes();
}

void LowLatency::place_rows() {
  std::fill(row_counts_.begin(), row_counts_.end(), 0);
  const Received received = wire_.received();
  const std::size_t words = record_words(*job_.options, Records::kIds);
  const std::int32_t* record = received.records;
  std::size_t row = 0;
  std::size_t next = 0;
  for (std::size_t source = 0; source < answer_counts_.size(); ++source) {
    const std::size_t first = next;
    for (int i = 0; i < (*received.counts)[source]; ++i, record += words) {
      first_place_[row++] = next;
      for (std::size_t k = 1; k < words; ++k) {
        if (record[k] < 0) continue;
        const auto expert = static_cast<std::size_t>(record[k]);
        places_[next++] = expert * rows_per_expert_ + static_cast<std::size_t>(row_counts_[expert]++);
      }
    }
    answer_counts_[source] = static_cast<int>(next - first);
  }
  first_place_[row] = next;
}

void LowLatency::spread_rows() {
  const Received received = wire_.received();
  const auto rows = static_cast<std::size_t>(sum_of(*received.counts));
  const std::size_t row_bytes = job_.options->row_bytes();
  std::vector<std::byte*> destinations(job_.options->topk);
  with_stores_for(first_place_[rows] * row_bytes, [&]<benchmarks::Store kStore>() {
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t count = first_place_[row + 1] - first_place_[row];
      for (std::size_t i = 0; i < count; ++i) destinations[i] = block_row(blocks_, places_[first_place_[row] + i]);
      spread_row<kStore>(received.rows + row * row_bytes, {destinations.data(), count}, row_bytes);
    }
  });
}

void LowLatency::dispatch() {
  wire_.dispatch();
  place_rows();
  spread_rows();
}

void LowLatency::run_expert() {
  if (job_.options->expert == Expert::kInPlace) return;
  for (std::size_t expert = 0; expert < row_counts_.size(); ++expert) {
    const std::size_t place = expert * rows_per_expert_;
    std::memcpy(block_row(expert_blocks_, place), block_row(blocks_, place),
                static_cast<std::size_t>(row_counts_[expert]) * job_.options->row_bytes());
  }
}

void LowLatency::pack_answers() {
  const auto rows = static_cast<std::size_t>(sum_of(answer_counts_));
  const std::size_t row_bytes = job_.options->row_bytes();
  with_stores_for(rows * row_bytes, [&]<benchmarks::Store kStore>() {
    for (std::size_t row = 0; row < rows; ++row) {
      std::byte* destination = answers_.data() + row * row_bytes;
      spread_row<kStore>(expert_output_ + places_[row] * row_bytes, {&destination, 1}, row_bytes);
    }
  });
}

void LowLatency::combine() {
  pack_answers();
  const std::vector<int> send_offsets = offsets_of(answer_counts_);
  MPI_Alltoallv(answers_.data(), answer_counts_.data(), send_offsets.data(), row_type_, returned_.data(),
                job_.routing->answer_counts.data(), return_offsets_.data(), row_type_, MPI_COMM_WORLD);
  std::array<const std::byte*, kMostRanks> bases;
  for (std::size_t rank = 0; rank < return_offsets_.size(); ++rank) {
    bases[rank] = block_row(returned_, static_cast<std::size_t>(return_offsets_[rank]));
  }
  sum_all_answers(job_, bases);
}

std::size_t LowLatency::payload_rows() const { return static_cast<std::size_t>(sum_of(job_.routing->answer_counts)); }

PackedRows LowLatency::packed() const {
  return {.blocks = blocks_.data(),
          .counts = &row_counts_,
          .rows_per_expert = rows_per_expert_,
          .first_expert = first_expert_};
}

void LowLatency::mark_answers() {
  for (std::size_t expert = 0; expert < row_counts_.size(); ++expert) {
    for (std::size_t row = 0; row < static_cast<std::size_t>(row_counts_[expert]); ++row) {
      const std::size_t place = expert * rows_per_expert_ + row;
      auto* values = reinterpret_cast<std::uint16_t*>(expert_output_ + place * job_.options->row_bytes());
      mark_row(first_expert_ + expert, {values, job_.options->hidden});
    }
  }
}

bool LowLatency::verify() {
  const bool last_was_right = verify_packed(job_, packed()) && verify_weighted(job_, Marks::kNone);
  // One more round, in which the rows of a token differ: only then does it show which of them combine took for which.
  dispatch();
  run_expert();
  mark_answers();
  combine();
  return verify_weighted(job_, Marks::kExperts) && last_was_right;
}

}  // namespace peers
