#include "one_sided.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "common/line.hpp"
#include "pack.hpp"
#include "sum.hpp"
#include "verify.hpp"

namespace peers {
namespace {

/// Tokens whose contributions are fetched before they are summed: at most this many bytes, half of a usual L2 cache.
constexpr std::size_t kFetchedBytes = std::size_t{512} << 10;

std::size_t tokens_at_once(const Job& job) {
  const std::size_t token_bytes = static_cast<std::size_t>(job.ranks) * job.options->row_bytes();
  return std::max<std::size_t>(1, kFetchedBytes / token_bytes);
}

}  // namespace

Window::Window(std::size_t bytes, std::size_t unit_bytes) {
  bytes = (bytes + 4096) & ~std::size_t{4095};  // a spare page: prefetches may run past the end
  MPI_Info info = MPI_INFO_NULL;
  MPI_Info_create(&info);
  MPI_Info_set(info, "same_disp_unit", "true");
  MPI_Info_set(info, "alloc_shared_noncontig", "true");
  const auto size = static_cast<MPI_Aint>(bytes);
  const int unit = static_cast<int>(unit_bytes);
  MPI_Win_allocate_shared(size, unit, info, MPI_COMM_WORLD, &data_, &window_);
  MPI_Info_free(&info);
  std::memset(data_, 0xFF, bytes);
  MPI_Win_lock_all(MPI_MODE_NOCHECK, window_);
}

Window::Window(Window&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), window_(std::exchange(other.window_, MPI_WIN_NULL)) {}

Window& Window::operator=(Window&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(window_, other.window_);
  return *this;
}

Window::~Window() {
  if (window_ == MPI_WIN_NULL) return;
  MPI_Win_unlock_all(window_);
  MPI_Win_free(&window_);
}

OneSided::OneSided(const Job& job)
    : job_(job),
      record_words_(record_words(*job.options, Records::kIdsAndWeights)),
      matrix_(static_cast<std::size_t>(job.ranks * job.ranks)),
      target_offsets_(static_cast<std::size_t>(job.ranks)),
      receive_counts_(static_cast<std::size_t>(job.ranks)),
      send_offsets_(offsets_of(job.routing->counts)) {
  MPI_Type_contiguous(static_cast<int>(job.options->row_bytes()), MPI_BYTE, &row_type_);
  MPI_Type_commit(&row_type_);
  exchange_counts();
  const auto received = static_cast<std::size_t>(sum_of(receive_counts_));
  const std::size_t record_bytes = record_words_ * sizeof(std::int32_t);
  rows_ = Window(received * job.options->row_bytes(), job.options->row_bytes());
  records_ = Window(received * record_bytes, record_bytes);
  send_records_ = Memory(static_cast<std::size_t>(sum_of(job.routing->counts)) * record_bytes, job.options->pages);
  fetched_ =
      Memory(tokens_at_once(job) * static_cast<std::size_t>(job.ranks) * job.options->row_bytes(), job.options->pages);
  const bool copies = job.options->expert == Expert::kCopy;
  if (copies) expert_rows_ = Window(received * job.options->row_bytes(), job.options->row_bytes());
  expert_window_ = (copies ? expert_rows_ : rows_).handle();
}

OneSided::~OneSided() { MPI_Type_free(&row_type_); }

void OneSided::exchange_counts() {
  MPI_Allgather(job_.routing->counts.data(), job_.ranks, MPI_INT, matrix_.data(), job_.ranks, MPI_INT, MPI_COMM_WORLD);
  const auto ranks = static_cast<std::size_t>(job_.ranks);
  const auto rank = static_cast<std::size_t>(job_.rank);
  std::fill(target_offsets_.begin(), target_offsets_.end(), 0);
  for (std::size_t source = 0; source < ranks; ++source) {
    receive_counts_[source] = matrix_[source * ranks + rank];
    for (std::size_t d = 0; d < ranks && source < rank; ++d) target_offsets_[d] += matrix_[source * ranks + d];
  }
}

void OneSided::put_rows() {
  const std::size_t row_bytes = job_.options->row_bytes();
  for (std::size_t token = 0; token < job_.options->tokens; ++token) {
    for (const Place& place : job_.routing->places_of(token)) {
      const MPI_Aint target = target_offsets_[static_cast<std::size_t>(place.rank)] + place.index;
      MPI_Put(job_.x + token * row_bytes, 1, row_type_, place.rank, target, 1, row_type_, rows_.handle());
    }
  }
}

void OneSided::put_records() {
  auto* packed = reinterpret_cast<std::int32_t*>(send_records_.data());
  std::array<std::int32_t*, kMostRanks> bases;
  for (std::size_t d = 0; d < send_offsets_.size(); ++d) {
    bases[d] = packed + static_cast<std::size_t>(send_offsets_[d]) * record_words_;
  }
  pack_records(job_, Records::kIdsAndWeights, bases);
  for (std::size_t d = 0; d < send_offsets_.size(); ++d) {
    const int words = job_.routing->counts[d] * static_cast<int>(record_words_);
    if (words == 0) continue;
    MPI_Put(bases[d], words, MPI_INT32_T, static_cast<int>(d), target_offsets_[d], words, MPI_INT32_T,
            records_.handle());
  }
}

void OneSided::dispatch() {
  exchange_counts();
  put_records();
  put_rows();
  MPI_Win_flush_all(records_.handle());
  MPI_Win_flush_all(rows_.handle());
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Win_sync(rows_.handle());
  MPI_Win_sync(records_.handle());
}

void OneSided::get_and_sum(std::size_t first_token, std::size_t last_token) {
  const std::size_t row_bytes = job_.options->row_bytes();
  std::byte* next = fetched_.data();
  for (std::size_t token = first_token; token < last_token; ++token) {
    for (const Place& place : job_.routing->places_of(token)) {
      const MPI_Aint target = target_offsets_[static_cast<std::size_t>(place.rank)] + place.index;
      MPI_Get(next, 1, row_type_, place.rank, target, 1, row_type_, expert_window_);
      next += row_bytes;
    }
  }
  MPI_Win_flush_all(expert_window_);
  next = fetched_.data();
  std::array<const std::byte*, kMostRanks> rows;
  for (std::size_t token = first_token; token < last_token; ++token) {
    const std::size_t count = job_.routing->places_of(token).size();
    for (std::size_t i = 0; i < count; ++i, next += row_bytes) rows[i] = next;
    sum_rows({rows.data(), count}, job_.result + token * row_bytes, row_bytes);
  }
}

void OneSided::run_expert() {
  if (job_.options->expert == Expert::kInPlace) return;
  const auto received = static_cast<std::size_t>(sum_of(receive_counts_));
  std::memcpy(expert_rows_.data(), rows_.data(), received * job_.options->row_bytes());
}

void OneSided::combine() {
  MPI_Win_sync(expert_window_);
  MPI_Barrier(MPI_COMM_WORLD);  // every expert's output is ready
  MPI_Win_sync(expert_window_);
  const std::size_t step = tokens_at_once(job_);
  for (std::size_t token = 0; token < job_.options->tokens; token += step) {
    get_and_sum(token, std::min(token + step, job_.options->tokens));
  }
  benchmarks::streaming_fence();
}

bool OneSided::verify() {
  return peers::verify(job_, {rows_.data(), reinterpret_cast<const std::int32_t*>(records_.data()), &receive_counts_});
}

}  // namespace peers
