// The copy and reduction loops against plain ones, for every instruction set of this machine.
#include "backend/host/kernels.hpp"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/bfloat16.hpp"
#include "support/draw.hpp"

namespace crossdock::host {
namespace {

using crossdock::testing::Draw;

constexpr std::size_t kMaxRowBytes = 600;
constexpr std::size_t kMaxFanout = 20;
#ifdef __SANITIZE_THREAD__
constexpr std::size_t kSizeStep = 37;  // one thread only: nothing to find, and slow
#else
constexpr std::size_t kSizeStep = 1;
#endif
constexpr std::byte kUntouched{0xA5};

/// Token t goes to ranks 0 to t - 1: every fan-out from 0 to kMaxFanout.
plan::RouteTable make_route() {
  plan::RouteTable route;
  route.begin.push_back(0);
  std::vector<std::int32_t> rows(kMaxFanout);
  for (std::size_t token = 0; token <= kMaxFanout; ++token) {
    for (std::size_t rank = 0; rank < token; ++rank) {
      route.rank.push_back(static_cast<std::int32_t>(rank));
      route.row.push_back(rows[rank]++);
    }
    route.begin.push_back(static_cast<std::int32_t>(route.rank.size()));
  }
  return route;
}

/// Bytes whose first one lies `offset` behind an address that is a multiple of 128.
class Memory {
 public:
  Memory(std::size_t bytes, std::size_t offset) : bytes_(bytes + offset + 2 * kAlignment, kUntouched) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    begin_ = (address + kAlignment - 1) / kAlignment * kAlignment - address + offset;
  }
  [[nodiscard]] std::byte* data() { return bytes_.data() + begin_; }
  [[nodiscard]] const std::vector<std::byte>& all() const { return bytes_; }
  [[nodiscard]] std::size_t begin() const { return begin_; }

 private:
  static constexpr std::size_t kAlignment = 128;
  std::vector<std::byte> bytes_;
  std::size_t begin_ = 0;
};

class KernelsTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(KernelsTest, TheTargetIsTheOneAskedFor) { EXPECT_EQ(simd_target(), hwy::TargetName(GetParam())); }

/// `offset` shifts source and, unless stores are streaming, destinations.
void check_multicast(std::size_t row_bytes, std::size_t offset, Stores stores, Draw& draw) {
  const plan::RouteTable route = make_route();
  const std::size_t stride = row_bytes + offset % 5;
  Memory source(stride * (kMaxFanout + 1), offset);
  const auto bytes = draw.bytes(stride * (kMaxFanout + 1));
  std::memcpy(source.data(), bytes.data(), bytes.size());
  std::vector<Memory> blocks;
  std::vector<std::byte*> destinations;
  for (std::size_t rank = 0; rank < kMaxFanout; ++rank) {
    blocks.emplace_back(row_bytes * (kMaxFanout + 1), stores == Stores::kStreaming ? 0 : offset);
  }
  for (Memory& block : blocks) destinations.push_back(block.data());
  multicast_rows({.route = &route,
                  .source = source.data(),
                  .source_stride = stride,
                  .row_bytes = row_bytes,
                  .destinations = destinations.data(),
                  .stores = stores});
  for (std::size_t rank = 0; rank < kMaxFanout; ++rank) {
    std::vector<std::byte> expected(blocks[rank].all().size(), kUntouched);
    std::byte* to = expected.data() + blocks[rank].begin();
    for (std::size_t token = rank + 1; token <= kMaxFanout; ++token, to += row_bytes) {
      std::memcpy(to, source.data() + token * stride, row_bytes);
    }
    ASSERT_EQ(blocks[rank].all(), expected)
        << "rows of " << row_bytes << " bytes, offset " << offset << ", rank " << rank;
  }
}

TEST_P(KernelsTest, MulticastOfEveryRowSize) {
  Draw draw(1);
  for (std::size_t row_bytes = 1; row_bytes <= kMaxRowBytes; row_bytes += kSizeStep) {
    check_multicast(row_bytes, row_bytes * 7 % 67, Stores::kCached, draw);
    check_multicast(row_bytes, row_bytes * 5 % 67, Stores::kStreaming, draw);
  }
  for (std::size_t offset = 0; offset < 128; ++offset) check_multicast(512, offset, Stores::kCached, draw);
}

/// Numbers at the edges: signed zeros, infinities, quiet and signalling NaN, subnormals, the largest, ties of bfloat16.
constexpr std::uint32_t kEdges[] = {0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001,
                                    0xFFFFFFFF, 0x00000001, 0x80000001, 0x007FFFFF, 0x00010000, 0x7F7FFFFF,
                                    0x7F7F8000, 0x3F808000, 0x3F818000, 0xBF808000, 0x3F800000, 0x47800000};

std::uint32_t draw_bits(Draw& draw) {
  if (draw.chance(5)) return kEdges[draw.between(0, std::ssize(kEdges) - 1)];
  const auto bits = static_cast<std::uint32_t>(draw.bits());
  return (bits & 0x807FFFFFU) | static_cast<std::uint32_t>(draw.between(120, 134)) << 23U;
}

struct Bfloat16Element {
  static constexpr std::size_t kBytes = 2;
  static void draw(Draw& draw, std::byte* at) {
    const auto bits = static_cast<std::uint16_t>(draw_bits(draw) >> 16U);
    std::memcpy(at, &bits, kBytes);
  }
  static float load(const std::byte* at) {
    Bfloat16 value;
    std::memcpy(&value, at, kBytes);
    return to_float(value);
  }
  static void save(float sum, std::byte* at) {
    const Bfloat16 value = to_bfloat16(sum);
    std::memcpy(at, &value, kBytes);
  }
  static void reduce(const ReduceArgs& args) { reduce_rows_bfloat16(args); }
};

struct Float32Element {
  static constexpr std::size_t kBytes = 4;
  static void draw(Draw& draw, std::byte* at) {
    const std::uint32_t bits = draw_bits(draw);
    std::memcpy(at, &bits, kBytes);
  }
  static float load(const std::byte* at) {
    float value = 0;
    std::memcpy(&value, at, kBytes);
    return value;
  }
  static void save(float sum, std::byte* at) {
    const float value = sum != sum ? std::bit_cast<float>(kFloat32Nan) : sum;
    std::memcpy(at, &value, kBytes);
  }
  static void reduce(const ReduceArgs& args) { reduce_rows_float32(args); }
};

struct ReduceCase {
  std::size_t hidden = 1;
  int num_biases = 0;
  std::size_t padding = 0;  ///< elements behind each row of a source or bias
  std::size_t offset = 0;   ///< of the result
  Stores stores = Stores::kCached;
};

template <class Element>
class Reduction {
 public:
  Reduction(const ReduceCase& shape, Draw& draw)
      : shape_(shape), stride_((shape.hidden + shape.padding) * Element::kBytes), route_(make_route()) {
    for (std::size_t i = 0; i < kMaxFanout + 2; ++i) {
      auto& rows = rows_.emplace_back(stride_ * (kMaxFanout + 1));
      for (std::size_t at = 0; at < rows.size(); at += Element::kBytes) Element::draw(draw, &rows[at]);
    }
  }

  void check() {
    std::vector<const std::byte*> sources;
    for (std::size_t rank = 0; rank < kMaxFanout; ++rank) sources.push_back(rows_[rank].data());
    const std::vector<std::size_t> strides(kMaxFanout, stride_);
    Memory out(shape_.hidden * Element::kBytes * (kMaxFanout + 1), shape_.offset);
    ReduceArgs args;
    args.route = &route_;
    args.sources = sources.data();
    args.source_strides = strides.data();
    if (shape_.num_biases > 0) args.bias_0 = rows_[kMaxFanout].data();
    if (shape_.num_biases > 1) args.bias_1 = rows_[kMaxFanout + 1].data();
    args.bias_0_stride = stride_;
    args.bias_1_stride = stride_;
    args.out = out.data();
    args.hidden = shape_.hidden;
    args.stores = shape_.stores;
    Element::reduce(args);
    std::vector<std::byte> expected(out.all().size(), kUntouched);
    write_expected(expected.data() + out.begin());
    ASSERT_EQ(out.all(), expected) << "hidden " << shape_.hidden << ", " << shape_.num_biases << " biases";
  }

 private:
  void write_expected(std::byte* to) const {
    for (std::size_t token = 0; token <= kMaxFanout; ++token) {
      for (std::size_t column = 0; column < shape_.hidden; ++column, to += Element::kBytes) {
        float sum = 0.0F;
        for (int b = 0; b < shape_.num_biases; ++b)
          sum += element(kMaxFanout + static_cast<std::size_t>(b), token, column);
        for (std::size_t rank = 0; rank < token; ++rank) sum += element(rank, token - rank - 1, column);
        Element::save(sum, to);
      }
    }
  }
  [[nodiscard]] float element(std::size_t block, std::size_t row, std::size_t column) const {
    return Element::load(&rows_[block][row * stride_ + column * Element::kBytes]);
  }

  ReduceCase shape_;
  std::size_t stride_;
  plan::RouteTable route_;
  std::vector<std::vector<std::byte>> rows_;
};

template <class Element>
void check_reductions(Draw& draw) {
  for (std::size_t hidden = 1; hidden <= kMaxRowBytes / Element::kBytes; hidden += kSizeStep) {
    ReduceCase shape{.hidden = hidden, .num_biases = static_cast<int>(hidden % 3), .padding = hidden % 4};
    shape.offset = hidden % 9 * Element::kBytes;
    Reduction<Element>(shape, draw).check();
    shape.offset = 0;
    shape.stores = Stores::kStreaming;
    Reduction<Element>(shape, draw).check();
  }
}

TEST_P(KernelsTest, ReductionOfBfloat16) {
  Draw draw(2);
  check_reductions<Bfloat16Element>(draw);
}

TEST_P(KernelsTest, ReductionOfFloat32) {
  Draw draw(3);
  check_reductions<Float32Element>(draw);
}

/// What this machine can run of what was compiled.
std::vector<std::int64_t> targets() {
  std::vector<std::int64_t> result;
  for (std::int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    hwy::SetSupportedTargetsForTest(target);
    if (simd_target() == hwy::TargetName(target)) result.push_back(target);
    hwy::SetSupportedTargetsForTest(0);
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelsTest, ::testing::ValuesIn(targets()),
                         [](const auto& param) { return std::string(hwy::TargetName(param.param)); });

}  // namespace
}  // namespace crossdock::host
