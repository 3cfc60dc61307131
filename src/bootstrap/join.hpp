// The other ranks' part of the rendezvous: finding rank 0 and being accepted.
#pragma once

#include <memory>

#include <crossdock/bootstrap.hpp>

#include "base/deadline.hpp"
#include "bootstrap/connection.hpp"
#include "bootstrap/secret.hpp"

namespace crossdock::bootstrap {

/// A connection that rank 0 has accepted. Tries until the deadline. Throws kBootstrap if rank 0 refuses, or is not
/// crossdock; kTimeout.
[[nodiscard]] std::unique_ptr<Connection> join(const TcpBootstrapOptions& options, const SecretKey* key,
                                               const Deadline& deadline);

}  // namespace crossdock::bootstrap
