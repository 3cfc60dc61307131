// Making the windows of a group: each rank creates its own and hands it to the others as a file descriptor.
#pragma once

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "backend/host/windows.hpp"
#include "base/deadline.hpp"

namespace crossdock::host {

/// Collective. Throws the same error on every rank if one rank's options are bad or its window cannot be made, or if
/// the ranks' options disagree; kBootstrap if a peer cannot be reached on this host.
[[nodiscard]] Windows exchange_windows(Bootstrap& bootstrap, const BufferOptions& options, const Deadline& deadline);

}  // namespace crossdock::host
