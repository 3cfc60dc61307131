// Two ranks as threads dispatch and combine through the installed library, using only its public headers.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include <crossdock/crossdock.hpp>

namespace {

constexpr int kRanks = 2;
constexpr int kExperts = 4;  // experts 0 and 1 are rank 0's, 2 and 3 rank 1's
constexpr std::int64_t kHidden = 64;
constexpr std::int64_t kTopk = 2;

/// Tokens of a rank; unequal on purpose.
std::int64_t num_tokens_of(int rank) { return 3 + rank; }

/// Small whole numbers, so that sums are exact.
float element(int rank, std::int64_t token, std::int64_t column) {
  return static_cast<float>(100 * rank + 10 * token + column % 7);
}

struct Routing {
  std::int64_t expert[kTopk];
  float num_ranks;  ///< ranks that get the token
};

/// Tokens 0, 1, 2, ... go to one rank, to both ranks, nowhere, and so on.
Routing routing_of(std::int64_t token) {
  switch (token % 3) {
    case 0: return {{1, 0}, 1.0F};
    case 1: return {{3, 0}, 2.0F};
    default: return {{-1, -1}, 0.0F};
  }
}

/// One rank's part: the experts return their input, so a token comes back once for each rank that got it.
bool run_rank(const std::shared_ptr<crossdock::Bootstrap>& bootstrap) {
  const int rank = bootstrap->rank();
  const std::int64_t num_tokens = num_tokens_of(rank);
  std::vector<float> x;
  std::vector<float> weights(static_cast<std::size_t>(num_tokens * kTopk), 0.5F);
  std::vector<std::int64_t> ids;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t column = 0; column < kHidden; ++column) x.push_back(element(rank, token, column));
    const Routing routing = routing_of(token);
    ids.insert(ids.end(), routing.expert, routing.expert + kTopk);
  }

  crossdock::BufferOptions options;
  options.arena_bytes = std::size_t{1} << 20;
  options.timeout = crossdock::Milliseconds{20'000};
  crossdock::Buffer buffer(bootstrap, options);

  crossdock::DispatchInput input;
  input.x = crossdock::Tensor::borrow(x.data(), crossdock::DataType::kFloat32, {num_tokens, kHidden});
  input.topk_idx = crossdock::Tensor::borrow(ids.data(), crossdock::DataType::kInt64, {num_tokens, kTopk});
  input.topk_weights = crossdock::Tensor::borrow(weights.data(), crossdock::DataType::kFloat32, {num_tokens, kTopk});
  input.num_experts = kExperts;
  const crossdock::DispatchOutput received = buffer.dispatch(input);
  const crossdock::CombineOutput combined = buffer.combine({.x = received.recv_x, .handle = received.handle});

  const auto* result = combined.combined_x.data_as<const float>();
  std::int64_t num_wrong = 0;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t column = 0; column < kHidden; ++column) {
      const float expected = routing_of(token).num_ranks * element(rank, token, column);
      if (result[token * kHidden + column] != expected) ++num_wrong;
    }
  }
  std::printf("rank %d: %lld tokens, %lld rows received, %lld wrong elements\n", rank,
              static_cast<long long>(num_tokens), static_cast<long long>(received.handle.num_recv_tokens()),
              static_cast<long long>(num_wrong));
  return num_wrong == 0;
}

/// An error thrown inside the library is caught here by its type.
bool errors_cross_the_boundary() {
  try {
    (void)crossdock::make_in_process_bootstraps(0);
  } catch (const crossdock::Error& error) {
    return error.code() == crossdock::ErrorCode::kInvalidArgument && std::string_view(error.what()).size() > 0;
  }
  return false;
}

bool run_all() {
  const auto bootstraps = crossdock::make_in_process_bootstraps(kRanks);
  // Not vector<bool>: the ranks write their elements at the same time.
  std::vector<char> passed(kRanks, 0);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        passed[static_cast<std::size_t>(rank)] = run_rank(bootstraps[static_cast<std::size_t>(rank)]) ? 1 : 0;
      } catch (const std::exception& error) {
        std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return passed[0] == 1 && passed[1] == 1;
}

}  // namespace

int main() {
  std::printf("crossdock %.*s\n", static_cast<int>(crossdock::version().size()), crossdock::version().data());
  const bool passed = errors_cross_the_boundary() && run_all();
  std::puts(passed ? "passed" : "FAILED");
  return passed ? 0 : 1;
}
