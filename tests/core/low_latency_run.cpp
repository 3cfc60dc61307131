#include "core/low_latency_run.hpp"

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>

namespace crossdock::testing {

namespace {

namespace oracle = reference::low_latency;

constexpr std::int32_t kReceivedBefore = 5;  // by each expert, as the statistics say
constexpr std::byte kRubbish{0x3A};          // as a bfloat16 and as an id nothing that a world has

template <typename T>
bool is_equal(const Tensor& tensor, const std::vector<T>& values) {
  return tensor.num_bytes() == values.size() * sizeof(T) &&
         (values.empty() || std::memcmp(tensor.data(), values.data(), tensor.num_bytes()) == 0);
}

/// Compares `bytes` from `offset` on.
bool is_equal_from(const Tensor& tensor, const void* expected, std::size_t offset, std::size_t bytes) {
  return std::memcmp(tensor.data_as<std::byte>() + offset, static_cast<const std::byte*>(expected) + offset, bytes) ==
         0;
}

Tensor make_ids(const oracle::DispatchRank& rank, int num_topk, DataType dtype) {
  if (dtype == DataType::kInt64) return make_matrix(dtype, num_topk, std::span(rank.topk_idx));
  const std::vector<std::int32_t> ids(rank.topk_idx.begin(), rank.topk_idx.end());
  return make_matrix(dtype, num_topk, std::span(ids));
}

Tensor make_statistics(std::size_t num_experts) {
  auto counts = std::make_shared<std::vector<std::int32_t>>(num_experts + 1, kReceivedBefore);
  return Tensor::own(counts, counts->data(), DataType::kInt32, std::array{static_cast<std::int64_t>(num_experts)});
}

/// Memory of the caller, from an address that suits the element and nothing larger.
Tensor make_combine_rows(const std::vector<Bfloat16>& rows, std::span<const std::int64_t> shape) {
  auto memory = std::make_shared<std::vector<Bfloat16>>(rows.size() + 1);
  if (!rows.empty()) std::memcpy(memory->data() + 1, rows.data(), rows.size() * sizeof(Bfloat16));
  return Tensor::own(memory, memory->data() + 1, DataType::kBfloat16, shape);
}

}  // namespace

LowLatencyDispatchInput low_latency_input(const LowLatencyWorld& world, int rank) {
  const oracle::DispatchRank& mine = world.dispatch.ranks[static_cast<std::size_t>(rank)];
  LowLatencyDispatchInput input;
  input.x = make_rows({DataType::kBfloat16, world.dispatch.hidden}, std::as_bytes(std::span(mine.x)),
                      world.seed % 2 == 0 ? RowPlacement::kPacked : RowPlacement::kPadded);
  input.topk_idx = make_ids(mine, world.dispatch.num_topk, world.id_dtype);
  input.num_max_dispatch_tokens_per_rank = world.dispatch.max_tokens;
  input.num_experts = world.dispatch.num_experts;
  input.format = static_cast<RowFormat>(world.dispatch.format);
  return input;
}

LowLatencyRun::LowLatencyRun(Buffer& buffer, const LowLatencyWorld& world, const LowLatencyWorld& expected,
                             const TensorPlace& place)
    : buffer_(buffer),
      world_(world),
      expected_(&expected),
      place_(place),
      rank_(static_cast<std::size_t>(buffer.rank())),
      statistics_(place.place(make_statistics(expected.dispatched[rank_].count.size()))) {}

const TensorPlace& LowLatencyRun::host_place() {
  static const TensorPlace place;
  return place;
}

void LowLatencyRun::overwrite(const Tensor& tensor) const {
  const std::vector<std::byte> rubbish(tensor.num_bytes(), kRubbish);
  if (!rubbish.empty()) place_.write(tensor, rubbish);
}

OperationOptions LowLatencyRun::on_stream(OperationOptions options) const {
  options.stream = place_.stream();
  return options;
}

LowLatencyRun::Fetched LowLatencyRun::fetch() const {
  Fetched fetched{place_.fetch(dispatched_->packed_recv_x), std::nullopt,
                  place_.fetch(dispatched_->handle.packed_recv_src_info())};
  if (const auto& scales = dispatched_->packed_recv_x_scales) {
    // Its transposed view is contiguous.
    const std::array shape{scales->size(0), scales->size(2), scales->size(1)};
    const Tensor stored = Tensor::own(scales->owner(), scales->data(), scales->dtype(), shape, scales->device());
    const Tensor here = place_.fetch(stored);
    fetched.scales = Tensor::own(here.owner(), here.data(), here.dtype(), scales->shape())
                         .with_strides({scales->stride(0), scales->stride(1), scales->stride(2)});
  }
  return fetched;
}

void LowLatencyRun::demand(bool condition, const std::string& what) const {
  if (!condition) throw std::runtime_error(world_.description() + ", rank " + std::to_string(rank_) + ": " + what);
}

void LowLatencyRun::dispatch(const OperationOptions& options) {
  LowLatencyDispatchInput input = low_latency_input(world_, buffer_.rank());
  input.cumulative_local_expert_recv_stats = statistics_;
  input.x = x_ = place_.place(input.x);
  input.topk_idx = ids_ = place_.place(input.topk_idx);
  dispatched_ = buffer_.low_latency_dispatch(input, on_stream(options));
  if (options.completion != Completion::kHook) return;
  place_.synchronize();
  overwrite(x_);
  overwrite(ids_);
}

void LowLatencyRun::receive_dispatch() {
  dispatched_->event.wait();
  if (dispatched_->hook.defined()) dispatched_->hook();
  place_.synchronize();
}

void LowLatencyRun::check_dispatch() const {
  const oracle::DispatchedRank& expected = expected_->dispatched[rank_];
  demand(is_equal(place_.fetch(dispatched_->packed_recv_count), expected.count), "counts");
  demand(is_equal(place_.fetch(dispatched_->handle.packed_recv_layout_range()), expected.layout_range),
         "layout ranges");
  const Fetched fetched = fetch();
  const Tensor statistics = place_.fetch(statistics_);
  demand(dispatched_->packed_recv_x_scales.has_value() == (world_.dispatch.format != oracle::RowFormat::kBfloat16),
         "scales");
  for (std::size_t expert = 0; expert < expected.count.size(); ++expert) {
    demand(statistics.data_as<std::int32_t>()[expert] == kReceivedBefore + expected.count[expert], "statistics");
    if (expected.count[expert] > 0) check_expert(fetched, expert, static_cast<std::size_t>(expected.count[expert]));
  }
}

void LowLatencyRun::check_expert(const Fetched& fetched, std::size_t expert, std::size_t count) const {
  const oracle::DispatchedRank& expected = expected_->dispatched[rank_];
  const std::size_t first = expert * static_cast<std::size_t>(world_.num_ranks() * world_.dispatch.max_tokens);
  const Tensor& x = fetched.x;
  const std::size_t row_bytes = static_cast<std::size_t>(world_.dispatch.hidden) * size_of(x.dtype());
  const void* rows = expected.x.empty() ? static_cast<const void*>(expected.x_float8.data()) : expected.x.data();
  demand(is_equal_from(x, rows, first * row_bytes, count * row_bytes), "rows of expert " + std::to_string(expert));
  demand(is_equal_from(fetched.src_info, expected.src_info.data(), first * sizeof(std::int32_t),
                       count * sizeof(std::int32_t)),
         "source tokens");
  if (fetched.scales) check_scales(*fetched.scales, expert, count);
}

void LowLatencyRun::check_scales(const Tensor& scales, std::size_t expert, std::size_t count) const {
  const oracle::DispatchedRank& expected = expected_->dispatched[rank_];
  const void* values =
      expected.scales.empty() ? static_cast<const void*>(expected.packed_scales.data()) : expected.scales.data();
  for (std::int64_t column = 0; column < scales.size(2); ++column) {
    const auto at =
        static_cast<std::size_t>(static_cast<std::int64_t>(expert) * scales.stride(0) + column * scales.stride(2));
    demand(is_equal_from(scales, values, at * size_of(scales.dtype()), count * size_of(scales.dtype())),
           "scales of expert " + std::to_string(expert));
  }
}

LowLatencyCombineInput LowLatencyRun::combine_input() {
  const oracle::CombineRank& mine = world_.combine.ranks[rank_];
  LowLatencyCombineInput input;
  input.handle = dispatched_->handle;
  if (world_.source(buffer_.rank()) == LowLatencySource::kElsewhere) {
    const auto local = static_cast<std::int64_t>(expected_->dispatched[rank_].count.size());
    input.x = place_.place(make_combine_rows(
        mine.x, std::array{local, world_.num_ranks() * world_.dispatch.max_tokens, world_.dispatch.hidden}));
  } else {
    input.x = buffer_.next_combine_buffer(input.handle);
    if (!mine.x.empty()) place_.write(input.x, std::as_bytes(std::span(mine.x)));
  }
  input.zero_copy = world_.source(buffer_.rank()) == LowLatencySource::kZeroCopy;
  input.use_logfmt = world_.combine.format == oracle::WireFormat::kLogFmt;
  input.topk_weights =
      place_.place(make_matrix(DataType::kFloat32, world_.combine.num_topk, std::span(mine.topk_weights)));
  if (world_.seed % 2 == 0)
    input.topk_idx = place_.place(make_ids(world_.dispatch.ranks[rank_], world_.dispatch.num_topk, world_.id_dtype));
  return input;
}

void LowLatencyRun::combine(const OperationOptions& options) {
  const LowLatencyCombineInput input = combine_input();
  combine_x_ = input.x;
  combined_ = buffer_.low_latency_combine(input, on_stream(options));
  const bool is_staged = world_.source(buffer_.rank()) == LowLatencySource::kElsewhere;
  if (!is_staged || options.completion != Completion::kHook) return;
  place_.synchronize();
  overwrite(combine_x_);
}

void LowLatencyRun::receive_combine() {
  combined_->event.wait();
  if (combined_->hook.defined()) combined_->hook();
  place_.synchronize();
  combine_x_ = {};
}

void LowLatencyRun::check_combine() const {
  demand(is_equal(place_.fetch(combined_->combined_x), expected_->combined[rank_]), "combined rows");
}

void LowLatencyRun::run(const OperationOptions& options) {
  dispatch(options);
  receive_dispatch();
  check_dispatch();
  combine(options);
  receive_combine();
  check_combine();
}

void run_low_latency_round_trip(Buffer& buffer) {
  constexpr std::uint64_t kSeed = 4;
  const LowLatencyWorld world = make_low_latency_world(
      kSeed, {.num_ranks = buffer.num_ranks(), .max_experts = 12, .max_hidden = 200, .max_tokens = 6});
  LowLatencyRun(buffer, world).run();
}

}  // namespace crossdock::testing
