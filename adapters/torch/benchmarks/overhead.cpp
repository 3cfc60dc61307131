// What crossdock::torch::DeepEPBuffer adds to the library's own calls:
//
//   torch_adapter_overhead [--ranks=1] [--tokens=1] [--hidden=7168] [--rounds=3000]
//
// Ranks are threads. In each round every operation is called once by the class and once by the library, on the same
// buffer and tensors, in an order that changes from round to round, so that other load meets both alike. A call lasts
// from when the first rank begins until the last rank has its result; printed are medians.
#include <algorithm>
#include <any>
#include <barrier>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <crossdock/torch/deep_ep_buffer.h>

namespace {

using crossdock::DataType;
using crossdock::Tensor;
using crossdock::torch::DeepEPBuffer;
using Clock = std::chrono::steady_clock;

constexpr int kTopK = 8;
constexpr int kExperts = 64;
constexpr int kMostLowLatencyTokens = 128;  ///< with more, that mode is not measured

struct Shape {
  int ranks = 1;
  int tokens = 1;
  int hidden = 7168;
  int rounds = 3000;
};

/// The same operation in both ways. What they return is kept until the time is taken.
struct Operation {
  const char* name;
  std::function<std::any()> library;
  std::function<std::any()> adapter;
};

struct Tokens {
  at::Tensor x, ids, weights;
};

Tokens make_tokens(const Shape& shape) {
  const at::Tensor scores = at::rand({shape.tokens, kExperts});
  return {at::randn({shape.tokens, shape.hidden}).to(at::kBFloat16),
          scores.argsort(std::int64_t{1}).slice(1, 0, kTopK).contiguous(), at::rand({shape.tokens, kTopK})};
}

Tensor borrow(const at::Tensor& tensor, DataType dtype) {
  return Tensor::borrow(tensor.data_ptr(), dtype, std::span(tensor.sizes().data(), tensor.sizes().size()));
}

/// One rank's operations. What they need of each other is made here, by all ranks.
std::vector<Operation> make_operations(DeepEPBuffer& buffer, const Tokens& tokens, const Shape& shape) {
  crossdock::Buffer& core = buffer.buffer();
  crossdock::DispatchInput input;
  input.x = borrow(tokens.x, DataType::kBfloat16);
  input.topk_idx = borrow(tokens.ids, DataType::kInt64);
  input.topk_weights = borrow(tokens.weights, DataType::kFloat32);
  input.layout = core.get_dispatch_layout(*input.topk_idx, kExperts);
  const auto layout = buffer.getDispatchLayout(tokens.ids, kExperts);
  const auto dispatch = [&buffer, tokens, layout] {
    return buffer.dispatch(tokens.x, std::nullopt, std::nullopt, layout.num_tokens_per_rank,
                           layout.num_tokens_per_rdma_rank, layout.is_token_in_rank, layout.num_tokens_per_expert,
                           tokens.ids, tokens.weights);
  };
  const auto received = dispatch();
  crossdock::CombineInput combine;
  combine.x = borrow(received.recv_x, DataType::kBfloat16);
  combine.topk_weights = borrow(*received.recv_topk_weights, DataType::kFloat32);
  combine.handle = received.handle->intra_handle->core;
  std::vector<Operation> operations = {
      {"layout", [&core, ids = *input.topk_idx] { return core.get_dispatch_layout(ids, kExperts); },
       [&buffer, tokens] { return buffer.getDispatchLayout(tokens.ids, kExperts); }},
      {"dispatch", [&core, input] { return core.dispatch(input); }, dispatch},
      {"combine with weights", [&core, combine] { return core.combine(combine); },
       [&buffer, received] { return buffer.combine(received.recv_x, *received.handle, received.recv_topk_weights); }}};
  if (shape.tokens > kMostLowLatencyTokens) return operations;

  crossdock::LowLatencyDispatchInput send;
  send.x = input.x;
  send.topk_idx = *input.topk_idx;
  send.num_max_dispatch_tokens_per_rank = shape.tokens;
  send.num_experts = kExperts;
  const auto packed = buffer.lowLatencyDispatch(tokens.x, tokens.ids, shape.tokens, kExperts, /*use_fp8=*/false);
  crossdock::LowLatencyCombineInput give_back;
  give_back.x = borrow(packed.packed_recv_x, DataType::kBfloat16);
  give_back.topk_weights = *input.topk_weights;
  give_back.topk_idx = input.topk_idx;
  give_back.handle = packed.handle.core;
  operations.push_back({"low-latency dispatch, FP8", [&core, send] { return core.low_latency_dispatch(send); },
                        [&buffer, tokens, most = shape.tokens] {
                          return buffer.lowLatencyDispatch(tokens.x, tokens.ids, most, kExperts);
                        }});
  operations.push_back({"low-latency combine", [&core, give_back] { return core.low_latency_combine(give_back); },
                        [&buffer, tokens, packed] {
                          return buffer.lowLatencyCombine(packed.packed_recv_x, tokens.ids, tokens.weights,
                                                          packed.handle, false, false);
                        }});
  return operations;
}

/// Times of all rounds, in microseconds, of each operation.
struct Times {
  std::vector<const char*> names;
  std::vector<std::vector<double>> library, adapter;
};

/// When the ranks began and ended the call that is being measured.
struct Span {
  std::mutex mutex;
  Clock::time_point begin = Clock::time_point::max();
  Clock::time_point end = Clock::time_point::min();
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void run_rank(const std::shared_ptr<crossdock::Bootstrap>& bootstrap, const Shape& shape, std::barrier<>& barrier,
              Span& span, Times& times) {
  const auto rank = static_cast<std::size_t>(bootstrap->rank());
  const std::int64_t row_bytes = 2 * shape.hidden;
  // Received rows of two dispatches, what is staged, and the low-latency mode.
  const std::int64_t bytes = 4 * row_bytes * shape.tokens * shape.ranks +
                             static_cast<std::int64_t>(DeepEPBuffer::getLowLatencyRdmaSizeHint(
                                 std::min(shape.tokens, kMostLowLatencyTokens), shape.hidden, shape.ranks, kExperts)) *
                                 2;
  DeepEPBuffer buffer(bootstrap, rank, static_cast<std::size_t>(shape.ranks), bytes);
  buffer.init();
  const std::vector<Operation> operations = make_operations(buffer, make_tokens(shape), shape);
  const auto measure = [&](const std::function<std::any()>& call) {
    barrier.arrive_and_wait();
    const auto begin = Clock::now();
    const std::any result = call();
    const auto end = Clock::now();
    {
      const std::lock_guard lock(span.mutex);
      span.begin = std::min(span.begin, begin);
      span.end = std::max(span.end, end);
    }
    barrier.arrive_and_wait();
    const double microseconds = std::chrono::duration<double, std::micro>(span.end - span.begin).count();
    barrier.arrive_and_wait();
    if (rank == 0) {
      span.begin = Clock::time_point::max();
      span.end = Clock::time_point::min();
    }
    return microseconds;
  };
  Times mine;
  for (const Operation& operation : operations) mine.names.push_back(operation.name);
  mine.library.resize(operations.size());
  mine.adapter.resize(operations.size());
  for (int round = 0; round < shape.rounds; ++round) {
    for (std::size_t i = 0; i < operations.size(); ++i) {
      for (const bool is_second : {false, true}) {
        const bool is_library = is_second == (round % 2 == 0);
        const double time = measure(is_library ? operations[i].library : operations[i].adapter);
        (is_library ? mine.library : mine.adapter)[i].push_back(time);
      }
    }
  }
  if (rank == 0) times = std::move(mine);
}

Shape parse(int argc, char** argv) {
  Shape shape;
  const std::vector<std::pair<std::string_view, int*>> options = {{"--ranks=", &shape.ranks},
                                                                  {"--tokens=", &shape.tokens},
                                                                  {"--hidden=", &shape.hidden},
                                                                  {"--rounds=", &shape.rounds}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto option = std::ranges::find_if(options, [&](const auto& o) { return argument.starts_with(o.first); });
    const char* const end = argument.data() + argument.size();
    if (option == options.end() ||
        std::from_chars(argument.data() + option->first.size(), end, *option->second).ptr != end ||
        *option->second < 1) {
      throw std::invalid_argument("unknown argument " + std::string(argument) +
                                  "; --ranks, --tokens, --hidden and --rounds with =N, at least 1, are allowed");
    }
  }
  return shape;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Shape shape = parse(argc, argv);
    at::set_num_threads(1);
    std::barrier<> barrier(shape.ranks);
    Span span;
    Times times;
    {
      std::vector<std::jthread> ranks;
      for (const auto& bootstrap : crossdock::make_in_process_bootstraps(shape.ranks)) {
        ranks.emplace_back([&, bootstrap] { run_rank(bootstrap, shape, barrier, span, times); });
      }
    }
    std::printf("%d ranks, %d tokens of %d channels, top-%d of %d experts, %d rounds; medians in microseconds\n",
                shape.ranks, shape.tokens, shape.hidden, kTopK, kExperts, shape.rounds);
    std::printf("%-28s%12s%12s%10s%9s\n", "operation", "class", "library", "added", "");
    for (std::size_t i = 0; i < times.names.size(); ++i) {
      const double adapter = median(times.adapter[i]);
      const double library = median(times.library[i]);
      std::printf("%-28s%12.1f%12.1f%10.1f%8.2f%%\n", times.names[i], adapter, library, adapter - library,
                  100 * (adapter - library) / library);
    }
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return EXIT_FAILURE;
  }
}
