// What a launch costs, and how fast rows can be copied, by ranks that are processes on device 0.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/arrays.hpp"
#include "backend/cuda/communication_stream.hpp"
#include "backend/cuda/cuda_error.hpp"
#include "crossdock/rank_launcher.hpp"
#include "crossdock/shared_block.hpp"
#include "crossdock/spin_barrier.hpp"
#include "cuda/probes.hpp"

namespace crossdock::limits {
namespace {

using Clock = std::chrono::steady_clock;
using Ticket = cuda::CommunicationStream::Ticket;

constexpr std::chrono::seconds kTimeout{10};

double microseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

/// Made before the ranks are.
struct Shared {
  explicit Shared(int count) : num_ranks(count), barrier(1), times(static_cast<std::size_t>(count)) {}

  int num_ranks;
  tool::SharedBlock<tool::SpinBarrier> barrier;
  tool::SharedBlock<double> times;  ///< [R]
};

class Limits {
 public:
  Limits(const Shared& shared, int rank, int num_sms, int iterations)
      : shared_(shared),
        rank_(rank),
        num_sms_(num_sms),
        iterations_(iterations),
        stream_(std::make_shared<cuda::CommunicationStream>(0, kOrderWords + 1)) {}

  void print_launches() {
    const auto launch_empty = [&](bool has_many) {
      return [this, has_many](const Ticket& ticket) {
        cuda::check(limits::launch_empty(has_many, num_sms_, ticket.completion, stream_->get()), "launch_empty");
      };
    };
    print_answer(
        "launch and answer of a kernel that does nothing", [](const Ticket&) {}, launch_empty(false));
    print_answer(
        "the same with 3.3 KB of arguments", [](const Ticket&) {}, launch_empty(true));
    const auto launch_waiting = [this](const Ticket& ticket) {
      constexpr std::chrono::microseconds kUntilItRuns{30};
      const cuda::device::Order order{ticket.order, stream_->passed_on(), std::chrono::nanoseconds(kTimeout).count(),
                                      ticket.number()};
      cuda::check(limits::launch_waiting(order, num_sms_, ticket.completion, stream_->get()), "launch_waiting");
      for (const auto begin = Clock::now(); Clock::now() < begin + kUntilItRuns;) {
      }
    };
    const auto give_order = [](const Ticket& ticket) {
      for (int i = 0; i < kOrderWords; ++i) ticket.give(i, 1);
      ticket.give(kOrderWords, cuda::device::Order::kCarryOut);
    };
    print_answer("order and answer of one that runs already", launch_waiting, give_order);
  }

  /// Of `bytes` by each rank.
  void print_copies(std::int64_t bytes) {
    constexpr int kCopies = 5;  // a row of a dispatch to 8 ranks goes to so many
    const auto from = cuda::make_device_array<std::byte>(static_cast<std::size_t>(bytes));
    const auto to = cuda::make_device_array<std::byte>(static_cast<std::size_t>(bytes) * kCopies);
    CopyProbe probe{.from = from.get(), .to = to.get(), .bytes = bytes};
    print_copy("loads and stores", probe, launch_plain_copy);
    for (const int piece_bytes : {4096, 8192, 12288}) {
      for (const int num_fetches : {6, 8, 10, 16, 32}) {
        constexpr int kMostShared = 200 << 10;
        constexpr int kPuts = 8;
        if ((num_fetches + kPuts) * piece_bytes > kMostShared) continue;
        probe.piece_bytes = piece_bytes;
        probe.num_fetches = num_fetches;
        print_copy(fmt::format("bulk copies of {} bytes, {} fetched at once", piece_bytes, num_fetches), probe,
                   launch_bulk_copy);
      }
    }
    probe.num_copies = kCopies;
    print_copy("each piece stored 5 times: loads and stores", probe, launch_plain_copy);
    print_copy("the same by bulk copies of 12288 bytes", probe, launch_bulk_copy);
  }

 private:
  using Launch = std::function<void(const Ticket&)>;

  [[nodiscard]] bool is_first() const noexcept { return rank_ == 0; }

  /// Returns when all ranks have called it.
  void meet() const {
    constexpr int kSpins = 2000;
    shared_.barrier[0].wait(shared_.num_ranks, kSpins, kTimeout);
  }
  /// The largest of what all ranks give. Collective.
  [[nodiscard]] double largest(double mine) const {
    shared_.times[static_cast<std::size_t>(rank_)] = mine;
    meet();
    const double result = std::ranges::max(shared_.times.values());
    meet();
    return result;
  }

  /// The median over iterations of the slowest rank's time, from a meeting on.
  double median_of(const std::function<double()>& measure) {
    constexpr int kWarmup = 5;
    std::vector<double> times;
    for (int i = 0; i < kWarmup + iterations_; ++i) {
      meet();
      const double slowest = largest(measure());
      if (i >= kWarmup) times.push_back(slowest);
    }
    std::ranges::sort(times);
    return times[times.size() / 2];
  }

  void print_answer(const std::string& name, const Launch& prepare, const Launch& act) {
    const double median = median_of([&] {
      const std::shared_ptr<const Ticket> ticket = stream_->take_ticket();
      prepare(*ticket);
      meet();
      const auto begin = Clock::now();
      act(*ticket);
      stream_->await(*ticket, Deadline(kTimeout));
      return microseconds_since(begin);
    });
    if (is_first()) fmt::print("{:<60}{:10.1f} us\n", name, median);
  }

  void print_copy(const std::string& name, const CopyProbe& probe,
                  const std::function<cudaError_t(const CopyProbe&, int, cudaStream_t)>& launch) {
    const double median = median_of([&] {
      const auto begin = Clock::now();
      cuda::check(launch(probe, num_sms_, stream_->get()), "a copy");
      cuda::check(cudaStreamSynchronize(stream_->get()), "a copy");
      return microseconds_since(begin);
    });
    constexpr double kBytesPerUsOfGb = 1e3;
    const double stored = static_cast<double>(probe.bytes) * probe.num_copies / median / kBytesPerUsOfGb;
    if (!is_first()) return;
    fmt::print("{:<60}{:10.1f} us, {:6.1f} GB/s stored by a multiprocessor\n", name, median, stored / num_sms_);
  }

  const Shared& shared_;
  int rank_;
  int num_sms_;
  int iterations_;
  std::shared_ptr<cuda::CommunicationStream> stream_;
};

int run(int argc, char** argv) {
  int num_ranks = 8;
  int num_sms = 16;
  int iterations = 50;
  std::int64_t megabytes = 272;
  CLI::App app("What launches cost on CUDA device 0, and how fast rows can be copied there");
  app.add_option("--ranks", num_ranks, "Processes; more than one want MPS")->check(CLI::Range(1, 64));
  app.add_option("--sms", num_sms, "Multiprocessors that each occupies")->check(CLI::Range(1, 1024));
  app.add_option("--megabytes", megabytes, "What each copies")->check(CLI::Range(1, 10'000));
  app.add_option("--iterations", iterations, "Medians are over so many")->check(CLI::Range(1, 10'000));
  CLI11_PARSE(app, argc, argv);
  const Shared shared(num_ranks);
  tool::run_ranks_or_throw({.num_ranks = num_ranks, .while_waiting = {}},
                           [&](const std::shared_ptr<Bootstrap>& bootstrap) {
                             Limits limits(shared, bootstrap->rank(), num_sms, iterations);
                             limits.print_launches();
                             limits.print_copies(megabytes * 1'000'000 / 4096 * 4096);
                             std::fflush(stdout);  // processes do not run exit handlers
                           });
  return 0;
}

}  // namespace
}  // namespace crossdock::limits

int main(int argc, char** argv) {
  try {
    return crossdock::limits::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_limits: {}\n", error.what());
    return 1;
  }
}
