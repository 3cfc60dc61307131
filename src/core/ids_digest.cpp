#include "core/ids_digest.hpp"

#include <span>

namespace crossdock {

namespace {

template <class Id>
std::uint64_t digest(std::span<const Id> ids) noexcept {
  constexpr std::uint64_t kOffset = 0xCBF2'9CE4'8422'2325;
  constexpr std::uint64_t kPrime = 0x100'0000'01B3;
  std::uint64_t result = kOffset;
  for (const Id id : ids) {
    result ^= static_cast<std::uint64_t>(std::int64_t{id});
    result *= kPrime;
  }
  return result;
}

}  // namespace

std::uint64_t digest_of_ids(const Tensor& topk_idx) noexcept {
  const auto count = static_cast<std::size_t>(topk_idx.num_elements());
  if (topk_idx.dtype() == DataType::kInt64) return digest(std::span(topk_idx.data_as<const std::int64_t>(), count));
  return digest(std::span(topk_idx.data_as<const std::int32_t>(), count));
}

}  // namespace crossdock
