// One rank's part of a low-latency world through crossdock::Buffer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <crossdock/buffer.hpp>

#include "core/low_latency_world.hpp"
#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// The halves of a dispatch and of its combine, one after the other, whatever lies between them. What is not as the
/// oracle says is a std::runtime_error: expectations of GoogleTest are lost in forked ranks.
class LowLatencyRun {
 public:
  /// `buffer`, `world` and `place` must outlive it.
  LowLatencyRun(Buffer& buffer, const LowLatencyWorld& world, const TensorPlace& place = host_place())
      : LowLatencyRun(buffer, world, world, place) {}
  /// The ranks do what `world` says, and what comes of it is `expected`: the same with masked ranks.
  LowLatencyRun(Buffer& buffer, const LowLatencyWorld& world, const LowLatencyWorld& expected,
                const TensorPlace& place = host_place());
  /// From now on.
  void expect(const LowLatencyWorld& expected) { expected_ = &expected; }

  /// With a hook, everything that need not stay is overwritten before this returns.
  void dispatch(const OperationOptions& options = {});
  void receive_dispatch();
  void check_dispatch() const;
  void combine(const OperationOptions& options = {});
  void receive_combine();
  void check_combine() const;
  /// Both, received and checked.
  void run(const OperationOptions& options = {});

 private:
  [[nodiscard]] LowLatencyCombineInput combine_input();
  void demand(bool condition, const std::string& what) const;
  /// So that nothing that comes later can be read.
  void overwrite(const Tensor& tensor) const;
  /// What has been dispatched, in host memory.
  struct Fetched {
    Tensor x;
    std::optional<Tensor> scales;
    Tensor src_info;
  };
  [[nodiscard]] Fetched fetch() const;
  [[nodiscard]] OperationOptions on_stream(OperationOptions options) const;
  void check_expert(const Fetched& fetched, std::size_t expert, std::size_t count) const;
  void check_scales(const Tensor& scales, std::size_t expert, std::size_t count) const;

  [[nodiscard]] static const TensorPlace& host_place();

  Buffer& buffer_;
  const LowLatencyWorld& world_;
  const LowLatencyWorld* expected_;
  const TensorPlace& place_;
  std::size_t rank_;
  Tensor x_;
  Tensor ids_;
  Tensor combine_x_;
  Tensor statistics_;
  std::optional<LowLatencyDispatchOutput> dispatched_;
  std::optional<LowLatencyCombineOutput> combined_;
};

[[nodiscard]] LowLatencyDispatchInput low_latency_input(const LowLatencyWorld& world, int rank);
/// Collective: a synchronous pair of a small world that follows from the number of ranks.
void run_low_latency_round_trip(Buffer& buffer);

}  // namespace crossdock::testing
