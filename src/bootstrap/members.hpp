// Rank 0's connections to all other ranks.
#pragma once

#include <memory>
#include <vector>

#include "base/deadline.hpp"
#include "bootstrap/connection.hpp"
#include "bootstrap/failure.hpp"

namespace crossdock::bootstrap {

/// [size]; null for rank 0 itself and for ranks that have not come.
using Members = std::vector<std::unique_ptr<Connection>>;

/// Queues the frames for every member and sends what the sockets take now.
void send_to_all(const Members& members, Bytes frames);

/// Sends until nothing is unsent. Gives up at the deadline (then false), and on members whose connection is broken.
[[nodiscard]] bool flush_all(const Members& members, const Deadline& deadline);

/// Tells every member, as well as that goes in a fifth of a second.
void announce_failure(const Members& members, const Failure& failure);

}  // namespace crossdock::bootstrap
