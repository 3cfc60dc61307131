// Low-latency combine: every token's owner reads its experts' rows where they lie and sums them with their weights.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <vector>

#include "backend/backend.hpp"
#include "backend/host/host_backend.hpp"

namespace crossdock::host {

class LowLatencyCombine final : public backend::ReceiveOperation {
 public:
  LowLatencyCombine(std::shared_ptr<Group> group, backend::LowLatencyCombineRequest request)
      : group_(std::move(group)),
        request_(std::move(request)),
        scratch_(scratch_bytes_.data(), scratch_bytes_.size(), group_->recycler.get()),
        sources_(&scratch_) {}

  void send(const Deadline& deadline);
  void receive(const Deadline& deadline) override;
  void abandon() noexcept override;

 private:
  /// The caller may change x after the operation: then the others must have read it before that.
  [[nodiscard]] bool is_shared_with_caller() const noexcept { return !is_packed_ && !request_.zero_copy; }
  /// x itself if it lies in the arena and is read best from there, else a slab with the used rows, those of expert
  /// after expert.
  [[nodiscard]] Tensor stage();
  [[nodiscard]] Tensor stage_logfmt(std::int64_t rows);
  [[nodiscard]] std::size_t staged_row_bytes() const noexcept;
  void copy_used_rows(const Tensor& staged) const;
  [[nodiscard]] const std::byte* x_row(std::int64_t row) const noexcept;
  [[nodiscard]] const std::byte* row_at(const LowLatencyHandle::State::Place& place) const noexcept;
  void receive_rows(const Deadline& deadline);
  void find_sources();
  void reduce();

  std::shared_ptr<Group> group_;
  backend::LowLatencyCombineRequest request_;
  /// Small arrays lie in the operation itself, larger ones come from the group's recycler.
  std::array<std::byte, 1024> scratch_bytes_;
  std::pmr::monotonic_buffer_resource scratch_;
  /// Where a rank's rows lie; null if it takes no part.
  struct Source {
    const std::byte* x = nullptr;
    bool is_packed = false;
  };
  std::pmr::vector<Source> sources_;  ///< [R]
  Tensor x_;                          ///< where the others read
  bool is_packed_ = false;
};

}  // namespace crossdock::host
