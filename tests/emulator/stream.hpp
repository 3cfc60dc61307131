// Streams, events and graphs: what is launched runs in order on a thread of the stream.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "emulator/kernel.hpp"

namespace crossdock::emulator {

/// Runs the kernel after what the stream was given before, or adds it to the graph that the stream is captured into.
void launch(cudaStream_t stream, const Shape& shape, std::function<void()> body);

/// Runs the work in the order of the stream; likewise.
void enqueue(cudaStream_t stream, std::function<void()> work);

/// Waits for everything that streams of this process have been given.
void synchronize_all();

}  // namespace crossdock::emulator
