// The two kinds of rank in a group that was made by the TCP rendezvous.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <crossdock/bootstrap.hpp>

#include "base/deadline.hpp"
#include "bootstrap/connection.hpp"
#include "bootstrap/failure.hpp"
#include "bootstrap/members.hpp"

namespace crossdock::bootstrap {

/// What both kinds share: a collective is an exchange, and a failure is for good.
class TcpBootstrap : public Bootstrap {
 public:
  TcpBootstrap(int rank, int size) : rank_(rank), size_(size) {}

  [[nodiscard]] int rank() const noexcept final { return rank_; }
  [[nodiscard]] int size() const noexcept final { return size_; }
  [[nodiscard]] std::vector<Bytes> all_gather(std::span<const std::byte> mine, Milliseconds timeout) final;
  void barrier(Milliseconds timeout) final;

 protected:
  /// Every rank's bytes; empty ones if the operation is a barrier.
  [[nodiscard]] virtual std::vector<Bytes> exchange(Operation operation, std::span<const std::byte> mine,
                                                    const Deadline& deadline) = 0;

  [[nodiscard]] std::uint64_t round() const noexcept { return round_; }
  /// Remembers the failure for later calls and throws it.
  [[noreturn]] void fail(Failure failure);

 private:
  [[nodiscard]] std::vector<Bytes> run(Operation operation, std::span<const std::byte> mine, Milliseconds timeout);

  int rank_;
  int size_;
  std::uint64_t round_ = 0;
  std::optional<Failure> failure_;
};

/// Rank 0.
class TcpRoot final : public TcpBootstrap {
 public:
  explicit TcpRoot(Members members) : TcpBootstrap(0, static_cast<int>(members.size())), members_(std::move(members)) {}

 private:
  struct Collective {
    Operation operation;
    std::vector<bool> arrived;  // [size]
    std::vector<Bytes> contributions;
    std::optional<Milliseconds> given_up;  // the timeout of a member that waits no longer
  };

  [[nodiscard]] std::vector<Bytes> exchange(Operation operation, std::span<const std::byte> mine,
                                            const Deadline& deadline) override;
  void collect(Collective& collective, const Deadline& deadline);
  void read_from(int rank, Collective& collective);
  void take(int rank, Frame frame, Collective& collective);
  void hand_out(const Collective& collective, const Deadline& deadline);
  [[nodiscard]] Progress progress(const Collective& collective) const;
  [[noreturn]] void fail_everywhere(const Failure& failure);

  Members members_;
};

/// Every other rank.
class TcpMember final : public TcpBootstrap {
 public:
  /// Waits until rank 0 says that every rank has come. Throws what rank 0 says otherwise.
  TcpMember(const TcpBootstrapOptions& options, std::unique_ptr<Connection> root, const Deadline& deadline);

 private:
  [[nodiscard]] std::vector<Bytes> exchange(Operation operation, std::span<const std::byte> mine,
                                            const Deadline& deadline) override;
  [[nodiscard]] Frame next_frame(Operation operation, const Deadline& deadline);
  [[nodiscard]] std::optional<Frame> wait_for_frame(const Deadline& deadline);
  [[nodiscard]] std::optional<Frame> wait_until(const Deadline& deadline);
  /// `how` completes the sentence "rank 0 ...".
  [[noreturn]] void fail_because_root(ErrorCode code, Operation operation, const std::string& how);

  std::unique_ptr<Connection> root_;
};

}  // namespace crossdock::bootstrap
