#include "emulator/kernel.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <boost/context/fiber.hpp>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <unordered_map>
#include <vector>

namespace crossdock::emulator {

namespace {

namespace context = boost::context;

constexpr std::size_t kStackBytes = std::size_t{64} << 10U;  ///< of a CUDA thread; only what is used is backed
constexpr unsigned kResidentBlocks = 64;                     ///< of a kernel
constexpr auto kFirstPause = std::chrono::microseconds(20);
constexpr auto kLongestPause = std::chrono::microseconds(500);

/// Stacks of a runner's fibers, in few mappings, as the system counts these. Runners live as long as the process, so
/// nothing is given back.
class Stacks {
 public:
  context::stack_context allocate() {
    constexpr std::size_t kChunk = 256;
    if (left_ == 0) {
      void* const memory = ::mmap(nullptr, kChunk * kStackBytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) throw std::bad_alloc();
      next_ = static_cast<std::byte*>(memory);
      left_ = kChunk;
    }
    --left_;
    next_ += kStackBytes;
    context::stack_context stack;
    stack.size = kStackBytes;
    stack.sp = next_;  // it grows down
    return stack;
  }

 private:
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
};

/// One of them, already taken: fibers copy their allocators.
struct Stack {
  context::stack_context taken;
  [[nodiscard]] context::stack_context allocate() const noexcept { return taken; }
  static void deallocate(context::stack_context&) noexcept {}
};

struct Lane {
  Place place;
  unsigned index = 0;  ///< in the block
  context::fiber own;
  context::fiber scheduler;
};

/// Lanes of a warp that wait for each other. What they give is kept twice, as a lane may be one meeting ahead.
struct Meeting {
  unsigned arrived = 0;
  std::uint64_t generation = 0;
  std::array<std::array<std::uint64_t, kWarpLanes>, 2> values{};
  std::vector<Lane*> waiting;
};

/// Runs blocks, one at a time, on its own thread.
class Runner {
 public:
  Runner() : thread_([this] { run(); }) { thread_.detach(); }  // runners live as long as the process

  void start(std::function<void(Runner&)> work) {
    const std::lock_guard lock(mutex_);
    work_ = std::move(work);
    is_wanted_.notify_one();
  }

  void run_block(const Shape& shape, const uint3& block, const std::function<void()>& body) {
    body_ = &body;
    const unsigned count = shape.block.x * shape.block.y * shape.block.z;
    while (lanes_.size() < count) add_lane();
    shared_.resize(shape.shared_bytes);
    warps_.clear();
    warps_.resize((count + kWarpLanes - 1) / kWarpLanes);
    live_ = count;
    arrived_ = 0;
    for (unsigned i = 0; i < count; ++i) {
      Lane& lane = *lanes_[i];
      const unsigned x = i % shape.block.x;
      const unsigned y = i / shape.block.x % shape.block.y;
      lane.place = {{x, y, i / (shape.block.x * shape.block.y)}, block, shape.block, shape.grid};
      ready_.push_back(&lane);
    }
    while (live_ > 0) {
      if (ready_.empty()) std::terminate();  // threads wait for one that has ended
      current_ = ready_.front();
      ready_.pop_front();
      current_->own = std::move(current_->own).resume();
      if (polls_ > 2 * ready_.size()) pause();
    }
  }

  [[nodiscard]] const Place& place() const noexcept { return current_->place; }
  [[nodiscard]] void* shared() noexcept { return shared_.data(); }

  Votes meet_block(unsigned vote) {
    progress();
    Votes& votes = votes_[block_generation_ % 2];
    if (arrived_ == 0) votes = {0, ~0U};
    votes.any |= vote;
    votes.all &= vote;
    ++arrived_;
    if (!release_block()) {
      waiting_.push_back(current_);
      switch_away();
    }
    return votes;
  }

  const std::uint64_t* meet_lanes(unsigned mask, std::uint64_t value) {
    progress();
    Meeting& meeting = warps_[current_->index / kWarpLanes][mask];
    auto& values = meeting.values[meeting.generation % 2];
    values[current_->index % kWarpLanes] = value;
    meeting.arrived |= 1U << current_->index % kWarpLanes;
    if (meeting.arrived != mask) {
      meeting.waiting.push_back(current_);
      switch_away();
    } else {
      meeting.arrived = 0;
      ++meeting.generation;
      for (Lane* lane : meeting.waiting) ready_.push_back(lane);
      meeting.waiting.clear();
    }
    return values.data();
  }

  void poll() {
    ++polls_;
    ready_.push_back(current_);
    switch_away();
  }

  static thread_local Runner* mine;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

 private:
  void run() {
    mine = this;
    while (true) {
      std::function<void(Runner&)> work;
      {
        std::unique_lock lock(mutex_);
        is_wanted_.wait(lock, [this] { return work_ != nullptr; });
        work = std::exchange(work_, nullptr);
      }
      work(*this);
    }
  }

  void add_lane() {
    lanes_.push_back(std::make_unique<Lane>());
    Lane& lane = *lanes_.back();
    lane.index = static_cast<unsigned>(lanes_.size() - 1);
    lane.own = context::fiber(std::allocator_arg, Stack{stacks_.allocate()}, [this, &lane](context::fiber&& scheduler) {
      lane.scheduler = std::move(scheduler);
      while (true) {
        (*body_)();
        progress();
        --live_;
        static_cast<void>(release_block());
        lane.scheduler = std::move(lane.scheduler).resume();
      }
      return std::move(lane.scheduler);
    });
  }

  void switch_away() {
    Lane& lane = *current_;
    lane.scheduler = std::move(lane.scheduler).resume();
  }

  /// Releases the threads that wait if all have come that have not ended.
  bool release_block() {
    if (arrived_ == 0 || arrived_ < live_) return false;
    arrived_ = 0;
    ++block_generation_;
    for (Lane* lane : waiting_) ready_.push_back(lane);
    waiting_.clear();
    return true;
  }

  void progress() noexcept {
    polls_ = 0;
    pause_ = kFirstPause;
  }

  /// All threads of the block look for something that is not there.
  void pause() {
    std::this_thread::sleep_for(pause_);
    pause_ = std::min(2 * pause_, kLongestPause);
    polls_ = 0;
  }

  const std::function<void()>* body_ = nullptr;
  Stacks stacks_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::byte> shared_;
  std::vector<std::unordered_map<unsigned, Meeting>> warps_;  ///< meetings by mask
  std::deque<Lane*> ready_;
  Lane* current_ = nullptr;
  unsigned live_ = 0;
  std::vector<Lane*> waiting_;  ///< for the block
  unsigned arrived_ = 0;
  std::uint64_t block_generation_ = 0;
  std::array<Votes, 2> votes_{};
  std::size_t polls_ = 0;
  std::chrono::microseconds pause_ = kFirstPause;
  std::mutex mutex_;
  std::condition_variable is_wanted_;
  std::function<void(Runner&)> work_;
  std::thread thread_;
};

thread_local Runner* Runner::mine = nullptr;

/// Runners that have nothing to do.
class Runners {
 public:
  Runner& take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return *new Runner;  // see Runner()
    Runner* runner = idle_.back();
    idle_.pop_back();
    return *runner;
  }
  void give_back(Runner& runner) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(&runner);
  }
  static Runners& all() {
    static auto* const runners = new Runners;
    return *runners;
  }

 private:
  std::mutex mutex_;
  std::vector<Runner*> idle_;
};

/// The blocks of one kernel.
class Grid {
 public:
  Grid(const Shape& shape, const std::function<void()>& body)
      : shape_(shape), body_(body), count_(shape.grid.x * shape.grid.y * shape.grid.z) {}

  void run() {
    running_ = std::min(count_, kResidentBlocks);
    for (unsigned i = running_; i > 0; --i) {
      Runners::all().take().start([this](Runner& runner) { run_blocks(runner); });
    }
    std::unique_lock lock(mutex_);
    has_ended_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  void run_blocks(Runner& runner) {
    std::unique_lock lock(mutex_);
    while (next_ < count_) {
      const unsigned block = next_++;
      lock.unlock();
      const unsigned y = block / shape_.grid.x % shape_.grid.y;
      runner.run_block(shape_, {block % shape_.grid.x, y, block / (shape_.grid.x * shape_.grid.y)}, body_);
      lock.lock();
    }
    Runners::all().give_back(runner);
    if (--running_ == 0) has_ended_.notify_one();
  }

  const Shape& shape_;
  const std::function<void()>& body_;
  unsigned count_;
  std::mutex mutex_;
  std::condition_variable has_ended_;
  unsigned next_ = 0;
  unsigned running_ = 0;
};

}  // namespace

const Place& place() noexcept { return Runner::mine->place(); }
void* dynamic_shared() noexcept { return Runner::mine->shared(); }
Votes meet_block(unsigned vote) { return Runner::mine->meet_block(vote); }
const std::uint64_t* meet_lanes(unsigned mask, std::uint64_t value) { return Runner::mine->meet_lanes(mask, value); }
void poll() { Runner::mine->poll(); }

void run_kernel(const Shape& shape, const std::function<void()>& body) { Grid(shape, body).run(); }

}  // namespace crossdock::emulator
