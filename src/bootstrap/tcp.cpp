#include "bootstrap/tcp.hpp"

#include <optional>
#include <utility>

#include "base/error.hpp"
#include "bootstrap/join.hpp"
#include "bootstrap/limits.hpp"
#include "bootstrap/rendezvous.hpp"
#include "bootstrap/secret.hpp"

namespace crossdock {

namespace bootstrap {

std::vector<Bytes> TcpBootstrap::all_gather(std::span<const std::byte> mine, Milliseconds timeout) {
  require(mine.size() <= kMaxContribution, "rank {} contributes {} bytes to all_gather; at most {} are allowed", rank_,
          mine.size(), kMaxContribution);
  return run(Operation::kAllGather, mine, timeout);
}

void TcpBootstrap::barrier(Milliseconds timeout) { static_cast<void>(run(Operation::kBarrier, {}, timeout)); }

std::vector<Bytes> TcpBootstrap::run(Operation operation, std::span<const std::byte> mine, Milliseconds timeout) {
  if (failure_) throw to_error(*failure_);
  ++round_;
  return exchange(operation, mine, Deadline(timeout));
}

void TcpBootstrap::fail(Failure failure) {
  failure_ = std::move(failure);
  throw to_error(*failure_);
}

namespace {

void check(const TcpBootstrapOptions& options) {
  require(options.size >= 1 && options.size <= kMaxSize, "a group of {} ranks; 1 to {} are allowed", options.size,
          kMaxSize);
  require(options.rank >= 0 && options.rank < options.size, "rank {} of a group of {}; 0 to {} are allowed",
          options.rank, options.size, options.size - 1);
  require(options.size == 1 || options.port != 0, "rank {}: port 0; 1 to 65535 are allowed", options.rank);
}

}  // namespace

}  // namespace bootstrap

std::shared_ptr<Bootstrap> make_tcp_bootstrap(const TcpBootstrapOptions& options) {
  bootstrap::check(options);
  if (options.size == 1) return make_in_process_bootstraps(1).front();
  std::optional<bootstrap::SecretKey> key;
  if (!options.secret.empty()) key.emplace(options.secret);
  const bootstrap::SecretKey* key_pointer = key ? &*key : nullptr;
  if (options.rank == 0) {
    return std::make_shared<bootstrap::TcpRoot>(bootstrap::Rendezvous(options, key_pointer).run());
  }
  const Deadline deadline(options.timeout);
  auto root = bootstrap::join(options, key_pointer, deadline);
  return std::make_shared<bootstrap::TcpMember>(options, std::move(root), deadline);
}

}  // namespace crossdock
