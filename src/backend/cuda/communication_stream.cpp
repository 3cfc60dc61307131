#include "backend/cuda/communication_stream.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <limits>
#include <new>

#include "backend/cuda/device/stamped.hpp"
#include "backend/cuda/device_guard.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

constexpr std::size_t kFlags = 64;      ///< kernels that may be waited for at once
constexpr std::size_t kFlagWords = 16;  ///< from flag to flag: two cache lines
constexpr int kSpins = 2000;            ///< looks at a flag before the first yield
constexpr int kYieldsPerCheck = 64;     ///< yields between two looks at the clock and at the stream
constexpr std::size_t kMostKeptBytes = std::size_t{1} << 20U;  ///< of a block
constexpr auto kCheckInterval = std::chrono::milliseconds(20);

/// What is kept has few sizes, so that it is used again: an eighth is lost at most, above 4 KiB.
std::size_t block_bytes(std::size_t bytes) {
  constexpr std::size_t kLeast = 512;
  if (bytes > kMostKeptBytes) return bytes;
  const std::size_t unit = std::max(std::bit_floor(bytes) / 8, kLeast);
  return (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
}

void require_device(int device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    throw make_error(ErrorCode::kUnsupported, "CUDA does not work here ({}); DeviceType::kHost is allowed",
                     cudaGetErrorString(error));
  }
  if (device < 0 || device >= count) {
    throw make_error(ErrorCode::kUnsupported, "there is no CUDA device {}; DeviceType::kHost and 0 to {} are allowed",
                     device, count - 1);
  }
}

}  // namespace

CommunicationStream::CommunicationStream(int device, std::size_t order_words)
    : device_(device), order_words_(order_words) {
  require_device(device);
  const DeviceGuard guard(device);
  check(cudaDeviceGetAttribute(&num_multiprocessors_, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  blocks_ended_ = make_device_array<std::uint32_t>(1);
  flags_ = make_pinned<std::uint64_t>(kFlags * kFlagWords);
  orders_ = make_pinned<std::uint64_t>(kFlags * order_words);
  passed_on_ = make_device_array<std::uint64_t>(order_words);
  late_.reserve(kFlags);  // giving back does not throw
  for (std::size_t flag = 0; flag < kFlags; ++flag) free_flags_.push_back(flag);
  int least = 0;
  int greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), "cudaStreamCreateWithPriority");
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, device};
  check(cudaMemPoolCreate(&pool_, &properties), "cudaMemPoolCreate");
  auto keep = std::numeric_limits<std::uint64_t>::max();
  check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
}

CommunicationStream::~CommunicationStream() {
  for (const auto& block : blocks_) static_cast<void>(cudaFreeAsync(block.second, stream_));
  if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
  if (pool_ != nullptr) static_cast<void>(cudaMemPoolDestroy(pool_));
}

Tensor CommunicationStream::allocate(DataType dtype, std::span<const std::int64_t> shape) {
  std::size_t bytes = size_of(dtype);
  for (const std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
  bytes = block_bytes(bytes);
  void* data = take_block(bytes);
  if (data == nullptr) {
    const DeviceGuard guard(device_);
    check(cudaMallocFromPoolAsync(&data, bytes, pool_, stream_), "memory for a result");
  }
  std::shared_ptr<void> owner(
      data, [self = shared_from_this(), bytes](void* memory) noexcept { self->keep_block(memory, bytes); });
  return Tensor::own(std::move(owner), data, dtype, shape, device());
}

void* CommunicationStream::take_block(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(bytes);
  if (block == blocks_.end()) return nullptr;
  void* const data = block->second;
  blocks_.erase(block);
  return data;
}

void CommunicationStream::keep_block(void* data, std::size_t bytes) noexcept {
  try {
    if (bytes <= kMostKeptBytes) {
      const std::lock_guard lock(mutex_);
      blocks_.emplace(bytes, data);
      return;
    }
  } catch (const std::bad_alloc&) {  // then it is not kept
  }
  static_cast<void>(cudaFreeAsync(data, stream_));
}

std::shared_ptr<CommunicationStream::Ticket> CommunicationStream::take_ticket() {
  const std::lock_guard lock(mutex_);
  std::erase_if(late_, [this](const Ticket& ticket) {
    if (has_ended(ticket)) free_flags_.push_back(ticket.flag);
    return has_ended(ticket);
  });
  if (free_flags_.empty()) {
    throw make_error(ErrorCode::kCapacity, "more than {} kernels are waited for at once", kFlags);
  }
  const std::size_t flag = free_flags_.back();
  free_flags_.pop_back();
  const device::Completion completion{blocks_ended_.get(), &flags_[flag * kFlagWords], ++last_value_};
  return {new Ticket{flag, completion, &orders_[flag * order_words_]},
          [stream = shared_from_this()](const Ticket* ticket) {
            stream->give_back(*ticket);
            delete ticket;
          }};
}

void CommunicationStream::give_back(const Ticket& ticket) noexcept {
  const std::lock_guard lock(mutex_);
  if (ticket.outlives_owner && !has_ended(ticket)) {
    late_.push_back(ticket);
  } else {
    free_flags_.push_back(ticket.flag);
  }
}

void CommunicationStream::Ticket::give(int index, std::uint32_t value) const noexcept {
  std::atomic_ref(order[index]).store(device::stamped(number(), value), std::memory_order_release);
}

bool CommunicationStream::is_through(const Ticket& ticket) noexcept {
  // Matches thread_complete.
  return std::atomic_ref(*ticket.completion.flag).load(std::memory_order_acquire) == ticket.completion.value;
}

bool CommunicationStream::has_ended(const Ticket& ticket) noexcept {
  const std::uint64_t value = std::atomic_ref(*ticket.completion.flag).load(std::memory_order_acquire);
  return value == ticket.completion.value || value == ticket.completion.called_off().value;
}

bool CommunicationStream::await(const Ticket& ticket, const Deadline& deadline) const {
  await([&] { return has_ended(ticket); }, deadline);
  return is_through(ticket);
}

void CommunicationStream::await(const std::function<bool()>& has_come, const Deadline& deadline) const {
  for (int i = 0; i < kSpins; ++i) {
    if (has_come()) return;
  }
  auto next_check = Deadline::Clock::now() + kCheckInterval;
  while (!has_come()) {
    for (int i = 0; i < kYieldsPerCheck && !has_come(); ++i) ::sched_yield();
    if (Deadline::Clock::now() < next_check) continue;
    next_check += kCheckInterval;
    const cudaError_t state = cudaStreamQuery(stream_);
    if (state == cudaSuccess && has_come()) return;
    if (state != cudaErrorNotReady) check(state == cudaSuccess ? cudaErrorUnknown : state, "a kernel of crossdock");
    if (deadline.passed()) {
      throw make_error(ErrorCode::kTimeout, "a kernel on CUDA device {} did not end within {} ms", device_,
                       deadline.timeout().count());
    }
  }
}

void CommunicationStream::throw_called_off() {
  throw make_error(ErrorCode::kSystem, "a kernel of crossdock ended without having done what it was launched for");
}

Tensor copy_to_host(const Tensor& tensor, cudaStream_t stream) {
  auto memory = std::make_shared<std::vector<std::byte>>(std::max<std::size_t>(tensor.num_bytes(), 1));
  check(cudaMemcpyAsync(memory->data(), tensor.data(), tensor.num_bytes(), cudaMemcpyDeviceToHost, stream),
        "a copy for the host");
  check(cudaStreamSynchronize(stream), "a copy for the host");
  std::byte* const data = memory->data();
  return Tensor::own(std::move(memory), data, tensor.dtype(), tensor.shape());
}

}  // namespace crossdock::cuda
