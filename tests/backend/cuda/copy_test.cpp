// The kernels that stage rows: all rows arrive, and nothing is written but rows.
#include "backend/cuda/device/copy.hpp"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/cuda/arrays.hpp"
#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/device_probe.hpp"
#include "support/draw.hpp"

namespace crossdock::testing {
namespace {

constexpr std::uint8_t kUntouched = 0xEE;
constexpr std::int64_t kGuardBytes = 64;

struct CopyCase {
  std::int64_t row_bytes;
  std::int64_t gap;  ///< bytes from the end of a row to the next
  std::int64_t num_rows;
  std::int64_t skip_begin;
  std::int64_t skip_count;
  int num_sms;
  int num_sharers;
  bool rows_on_device;
};

std::string text_of(const CopyCase& shape) {
  return std::to_string(shape.num_rows) + " rows of " + std::to_string(shape.row_bytes) + " + " +
         std::to_string(shape.gap) + " bytes without " + std::to_string(shape.skip_count) + " from " +
         std::to_string(shape.skip_begin) + ", " + std::to_string(shape.num_sms) + " multiprocessors, " +
         std::to_string(shape.num_sharers) + " sharers";
}

std::vector<std::uint8_t> random_bytes(Draw& draw, std::int64_t count) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
  std::ranges::generate(bytes, [&] { return static_cast<std::uint8_t>(draw.between(0, 200)); });
  return bytes;
}

void expect_copied(const CopyCase& shape, Draw& draw) {
  SCOPED_TRACE(text_of(shape));
  const std::int64_t stride = shape.row_bytes + shape.gap;
  const auto from = random_bytes(draw, shape.num_rows * stride);
  std::vector<std::uint8_t> to(static_cast<std::size_t>(shape.num_rows * shape.row_bytes + kGuardBytes), kUntouched);
  const auto from_there = cuda::make_device_array<std::uint8_t>(from.size() + 1);
  const auto to_there = cuda::make_device_array<std::uint8_t>(to.size());
  const auto rows_there = cuda::make_device_array<cuda::device::CopyRows>(1);
  const auto blocks_ended = cuda::make_device_array<std::uint32_t>(1);
  const auto flag = cuda::make_pinned<std::uint64_t>(1);
  const cuda::device::CopyRows rows{shape.num_rows, shape.skip_begin, shape.skip_count};
  check(cudaMemcpy(from_there.get(), from.data(), from.size(), cudaMemcpyHostToDevice));
  check(cudaMemcpy(to_there.get(), to.data(), to.size(), cudaMemcpyHostToDevice));
  check(cudaMemcpy(rows_there.get(), &rows, sizeof(rows), cudaMemcpyHostToDevice));

  cuda::device::CopyArgs args;
  if (shape.rows_on_device) {
    args.rows_on_device = rows_there.get();
  } else {
    args.rows = rows;
  }
  args.row_bytes = shape.row_bytes;
  args.stride = stride;
  args.from = reinterpret_cast<const std::byte*>(from_there.get());
  args.to = reinterpret_cast<std::byte*>(to_there.get());
  args.completion = {blocks_ended.get(), flag.get(), 7};
  check(cuda::device::launch_copy(args, shape.num_sms, shape.num_sharers, nullptr));
  check(cudaDeviceSynchronize());
  EXPECT_EQ(flag[0], 7U);
  check(cudaMemcpy(to.data(), to_there.get(), to.size(), cudaMemcpyDeviceToHost));

  const auto row_of = [&](const std::vector<std::uint8_t>& bytes, std::int64_t begin) {
    return std::vector<std::uint8_t>(bytes.begin() + begin, bytes.begin() + begin + shape.row_bytes);
  };
  for (std::int64_t row = 0; row < shape.num_rows; ++row) {
    const auto expected = row_of(from, row * stride);
    const auto found = row_of(to, row * shape.row_bytes);
    if (row < shape.skip_begin || row >= shape.skip_begin + shape.skip_count) {
      ASSERT_EQ(found, expected) << "row " << row;
    } else {  // what is to be left out may be copied
      for (std::size_t i = 0; i < found.size(); ++i) ASSERT_TRUE(found[i] == expected[i] || found[i] == kUntouched);
    }
  }
  EXPECT_TRUE(std::all_of(to.end() - kGuardBytes, to.end(), [](std::uint8_t byte) { return byte == kUntouched; }));
}

TEST(CudaCopy, AllRowsArriveAndNothingElseIsWritten) {
  if (const std::string why_not = why_no_cuda_device(); !why_not.empty()) GTEST_SKIP() << why_not;
  check(cuda::device::load_copy());
  Draw draw(21);
  // With 16 bytes at a time, so in bulk where there are such copies.
  expect_copied({14336, 0, 100, 0, 0, 4, 8, false}, draw);
  expect_copied({14336, 0, 100, 31, 40, 4, 1, true}, draw);
  expect_copied({14336, 64, 40, 5, 30, 3, 1, false}, draw);
  expect_copied({16, 0, 1, 0, 0, 1, 1, false}, draw);
  expect_copied({16, 0, 0, 0, 0, 2, 1, true}, draw);
  expect_copied({16, 0, 5, 0, 5, 2, 1, false}, draw);
  constexpr int kShapes = 60;
  for (int i = 0; i < kShapes; ++i) {
    CopyCase shape{};
    const int unit = draw.chance(70) ? 16 : 1;
    shape.row_bytes = draw.between(1, draw.chance(50) ? 20 : 600) * unit;
    shape.gap = draw.chance(50) ? 0 : draw.between(1, 9) * unit;
    shape.num_rows = draw.between(0, 60);
    shape.skip_begin = draw.between(0, shape.num_rows);
    shape.skip_count = draw.between(0, shape.num_rows - shape.skip_begin);
    shape.num_sms = static_cast<int>(draw.between(1, 16));
    shape.num_sharers = static_cast<int>(draw.between(1, 8));
    shape.rows_on_device = draw.chance(30);
    expect_copied(shape, draw);
  }
}

}  // namespace
}  // namespace crossdock::testing
