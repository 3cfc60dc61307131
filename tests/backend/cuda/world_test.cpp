// Random worlds on a CUDA device, ranks as threads: every result equals the oracle's bit for bit.
#include "backend/cuda/world_test_main.hpp"

int main(int argc, char** argv) {
  return crossdock::testing::run_cuda_worlds(argc, argv, "CudaWorldsAsThreads",
                                             crossdock::testing::run_worlds_as_threads);
}
