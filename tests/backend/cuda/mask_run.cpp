#include "backend/cuda/mask_run.hpp"

#include <cstdint>
#include <stdexcept>
#include <string>

#include <crossdock/error.hpp>

#include "backend/cuda/cuda_place.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {

BufferOptions cuda_mask_options(int num_ranks) {
  BufferOptions options = buffer_options_for(num_ranks);
  options.timeout = Milliseconds(5'000);
  options.arena_bytes = std::size_t{16} << 20U;
  return options;
}

void run_ranks(int num_ranks, const std::function<BufferOptions(int)>& options_of,
               const std::function<void(Buffer&, const TensorPlace&, Points&)>& body) {
  Points points(num_ranks);
  run_as_threads(num_ranks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    const CudaStreamPlace place(bootstrap->rank());
    Buffer buffer(bootstrap, on_device_of(place, options_of(bootstrap->rank())));
    try {
      body(buffer, place, points);
    } catch (...) {
      points.leave();
      throw;
    }
    points.reach();  // giving up a buffer waits for the others' kernels
    points.leave();
  });
}

std::vector<RandomWorld> random_worlds_of(int num_ranks, std::size_t count) {
  std::vector<RandomWorld> worlds;
  for (std::uint64_t seed = 1; worlds.size() < count; ++seed) {
    if (num_ranks_of(seed) == num_ranks) worlds.push_back(make_random_world(seed));
  }
  return worlds;
}

void run_world_or_throw(Buffer& buffer, const RandomWorld& world, const RandomWorld& expected,
                        const TensorPlace& place) {
  for (const std::string& line : run_world(buffer, world, expected, place)) {
    throw std::runtime_error(world.description() + ": " + line);
  }
}

void expect_state_error(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kState) return;
    throw;
  }
  throw std::runtime_error("a masked rank took part");
}

}  // namespace crossdock::testing
