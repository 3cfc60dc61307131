#include "backend/cuda/logfmt_probe.hpp"

#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/device/logfmt.cuh"

namespace crossdock::testing {

namespace {

using namespace cuda::device;

__host__ __device__ void probe(const LogFmtCase& input, LogFmtResult& result) {
  result = {};
  result.castable = thread_castable(input.amax, input.amin) ? 1 : 0;
  if (result.castable == 0) return;
  const LogFmtScale scale = thread_logfmt_scale(input.amax, input.amin);
  std::uint32_t pairs[8];
  for (int i = 0; i < 8; ++i) {
    pairs[i] = input.elements[2 * i] | static_cast<std::uint32_t>(input.elements[2 * i + 1]) << 16U;
  }
  const LogFmtPack pack = thread_pack(pairs, scale);
  for (int i = 0; i < 4; ++i) result.low[i] = pack.low[i];
  result.high = pack.high;
  for (int e = 0; e < 16; ++e) {
    result.values[e] = thread_as_bits(thread_unpack(pack, e, scale.range));
    result.decoded[e] = thread_as_bits(thread_decode(input.elements[e] & 0x1FFU, scale.range));
  }
}

__global__ void probe_kernel(const LogFmtCase* cases, LogFmtResult* results, std::size_t count) {
  const std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x;
  if (i < count) probe(cases[i], results[i]);
}

}  // namespace

std::vector<LogFmtResult> logfmt_on_host(const std::vector<LogFmtCase>& cases) {
  std::vector<LogFmtResult> results(cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) probe(cases[i], results[i]);
  return results;
}

std::vector<LogFmtResult> logfmt_on_device(const std::vector<LogFmtCase>& cases) {
  constexpr unsigned kThreads = 256;
  std::vector<LogFmtResult> results(cases.size());
  LogFmtCase* from = nullptr;
  LogFmtResult* to = nullptr;
  check(cudaMalloc(&from, cases.size() * sizeof(LogFmtCase)));
  check(cudaMalloc(&to, results.size() * sizeof(LogFmtResult)));
  check(cudaMemcpy(from, cases.data(), cases.size() * sizeof(LogFmtCase), cudaMemcpyHostToDevice));
  probe_kernel<<<static_cast<unsigned>((cases.size() + kThreads - 1) / kThreads), kThreads>>>(from, to, cases.size());
  check(cudaGetLastError());
  check(cudaMemcpy(results.data(), to, results.size() * sizeof(LogFmtResult), cudaMemcpyDeviceToHost));
  check(cudaFree(from));
  check(cudaFree(to));
  return results;
}

}  // namespace crossdock::testing
