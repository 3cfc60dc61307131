// One rank's part of a random world through crossdock::Buffer.
#pragma once

#include <string>
#include <vector>

#include <crossdock/buffer.hpp>

#include "support/random_world.hpp"
#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// How a buffer that runs worlds of that many ranks must be made.
[[nodiscard]] BufferOptions buffer_options_for(int num_ranks);
/// The same for tensors that live there.
[[nodiscard]] BufferOptions on_device_of(const TensorPlace& place, BufferOptions options);

/// Collective: every rank runs the same world. Returns what differs from the oracle, and checks that the arena is as
/// empty as before. Throws whatever the buffer throws: nothing in a world is an error.
[[nodiscard]] std::vector<std::string> run_world(Buffer& buffer, const RandomWorld& world);
/// The same where ranks are masked: the others dispatch what `world` says, and what comes of it is `expected`. Tensors
/// are made and looked at in `place`.
[[nodiscard]] std::vector<std::string> run_world(Buffer& buffer, const RandomWorld& world, const RandomWorld& expected,
                                                 const TensorPlace& place = TensorPlace());

}  // namespace crossdock::testing
