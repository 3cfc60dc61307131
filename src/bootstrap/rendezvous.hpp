// Rank 0's part of the rendezvous: it accepts whoever connects, and keeps the ranks of its group.
#pragma once

#include <deque>
#include <list>
#include <string>
#include <vector>

#include <crossdock/bootstrap.hpp>

#include "bootstrap/handshake.hpp"
#include "bootstrap/members.hpp"

namespace crossdock::bootstrap {

/// How much a stranger may ask of rank 0.
struct RendezvousLimits {
  Milliseconds handshake{10'000};      ///< from connecting to being accepted
  std::size_t max_candidates = 1'024;  ///< that are connected and not yet accepted; the oldest goes first
};

class Rendezvous {
 public:
  /// Listens. `key` is null without a secret and must live as long as this. Throws kBootstrap.
  Rendezvous(const TcpBootstrapOptions& options, const SecretKey* key, RendezvousLimits limits = {});

  /// Returns once every rank has come and has been told so. Throws kTimeout or kPeerLost, after it has told those that
  /// came.
  [[nodiscard]] Members run();

 private:
  /// Somebody who has connected and may turn out to be a rank.
  struct Candidate {
    std::unique_ptr<Connection> connection;
    RootHandshake handshake;
    Deadline deadline;
    bool done = false;
  };

  [[nodiscard]] bool complete() const;
  void wait() const;
  void accept_candidates();
  void make_room();
  void serve(Candidate& candidate);
  void step(Candidate& candidate, const Frame& frame);
  void expire(Candidate& candidate);
  void watch(int rank);
  void start();

  void refuse(Candidate& candidate, const std::string& reason, Bytes answer);
  [[nodiscard]] Failure missing(Milliseconds timeout) const;
  [[noreturn]] void fail(const Failure& failure) const;

  const SecretKey* key_;
  RendezvousLimits limits_;
  Deadline deadline_;
  FileDescriptor listener_;
  std::list<Candidate> candidates_;
  std::vector<bool> arrived_;  // [size]
  Members members_;
  std::deque<std::string> refusals_;  // the latest, for the error
};

}  // namespace crossdock::bootstrap
