// One rank's part of a low-latency world through crossdock::Buffer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <crossdock/buffer.hpp>

#include "core/low_latency_world.hpp"

namespace crossdock::testing {

/// The halves of a dispatch and of its combine, one after the other, whatever lies between them. What is not as the
/// oracle says is a std::runtime_error: expectations of GoogleTest are lost in forked ranks.
class LowLatencyRun {
 public:
  /// `buffer` and `world` must outlive it.
  LowLatencyRun(Buffer& buffer, const LowLatencyWorld& world) : LowLatencyRun(buffer, world, world) {}
  /// The ranks do what `world` says, and what comes of it is `expected`: the same with masked ranks.
  LowLatencyRun(Buffer& buffer, const LowLatencyWorld& world, const LowLatencyWorld& expected);
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
  void check_expert(std::size_t expert, std::size_t count) const;
  void check_scales(std::size_t expert, std::size_t count) const;

  Buffer& buffer_;
  const LowLatencyWorld& world_;
  const LowLatencyWorld* expected_;
  std::size_t rank_;
  Tensor x_;
  Tensor ids_;
  Tensor combine_x_;
  std::vector<std::int32_t> statistics_;
  std::optional<LowLatencyDispatchOutput> dispatched_;
  std::optional<LowLatencyCombineOutput> combined_;
};

[[nodiscard]] LowLatencyDispatchInput low_latency_input(const LowLatencyWorld& world, int rank);
/// Collective: a synchronous pair of a small world that follows from the number of ranks.
void run_low_latency_round_trip(Buffer& buffer);

}  // namespace crossdock::testing
