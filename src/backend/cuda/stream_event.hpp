// A point of the caller's stream as an Event.
#pragma once

#include <crossdock/event.hpp>
#include <crossdock/types.hpp>

namespace crossdock::cuda {

/// What was queued on the stream (of that device) before the call. Complete at once if nothing is left of it. A failure
/// is thrown by the event's wait().
[[nodiscard]] Event capture_stream(int device, void* stream);

}  // namespace crossdock::cuda
