// A group that gathers through a function of the engine.
#include <algorithm>
#include <cstdint>
#include <utility>

#include <crossdock/bootstrap.hpp>

#include "base/error.hpp"
#include "bootstrap/bytes.hpp"
#include "bootstrap/limits.hpp"

namespace crossdock {

namespace bootstrap {

namespace {

Bytes encode_length(std::size_t length) {
  Bytes result;
  append_little_endian(result, std::uint64_t{length});
  return result;
}

class CallbackBootstrap final : public Bootstrap {
 public:
  explicit CallbackBootstrap(CallbackBootstrapOptions options) : options_(std::move(options)) {}

  [[nodiscard]] int rank() const noexcept override { return options_.rank; }
  [[nodiscard]] int size() const noexcept override { return options_.size; }
  [[nodiscard]] std::vector<Bytes> all_gather(std::span<const std::byte> mine, Milliseconds timeout) override;
  void barrier(Milliseconds /*timeout*/) override { static_cast<void>(gather(encode_length(0))); }

 private:
  [[nodiscard]] std::vector<Bytes> gather(std::span<const std::byte> mine) const;
  [[nodiscard]] std::vector<std::size_t> gather_lengths(std::size_t mine) const;

  CallbackBootstrapOptions options_;
};

/// One call of the engine's function, whose result is checked for shape.
std::vector<Bytes> CallbackBootstrap::gather(std::span<const std::byte> mine) const {
  auto result = options_.all_gather(mine);
  if (result.size() != static_cast<std::size_t>(options_.size)) {
    throw make_error(ErrorCode::kBootstrap, "rank {}: the all_gather callback returned {} entries for {} ranks",
                     options_.rank, result.size(), options_.size);
  }
  for (std::size_t rank = 0; rank < result.size(); ++rank) {
    if (result[rank].size() == mine.size()) continue;
    throw make_error(ErrorCode::kBootstrap,
                     "rank {}: the all_gather callback returned {} bytes for rank {}; every rank contributes {}",
                     options_.rank, result[rank].size(), rank, mine.size())
        .with_rank(static_cast<int>(rank));
  }
  return result;
}

std::vector<std::size_t> CallbackBootstrap::gather_lengths(std::size_t mine) const {
  std::vector<std::size_t> result;
  for (const Bytes& entry : gather(encode_length(mine))) {
    const std::uint64_t length = read_little_endian<std::uint64_t>(entry, 0);
    if (length > kMaxContribution) {
      throw make_error(
          ErrorCode::kBootstrap,
          "rank {}: the all_gather callback says that rank {} contributes {} bytes; at most {} are allowed",
          options_.rank, result.size(), length, kMaxContribution)
          .with_rank(static_cast<int>(result.size()));
    }
    result.push_back(static_cast<std::size_t>(length));
  }
  return result;
}

std::vector<Bytes> CallbackBootstrap::all_gather(std::span<const std::byte> mine, Milliseconds /*timeout*/) {
  require(mine.size() <= kMaxContribution, "rank {} contributes {} bytes to all_gather; at most {} are allowed",
          options_.rank, mine.size(), kMaxContribution);
  const auto lengths = gather_lengths(mine.size());
  if (lengths[static_cast<std::size_t>(options_.rank)] != mine.size()) {
    throw make_error(ErrorCode::kBootstrap, "rank {}: the all_gather callback did not return entries in rank order",
                     options_.rank);
  }
  std::size_t longest = 0;
  for (const std::size_t length : lengths) longest = std::max(longest, length);
  if (longest == 0) return std::vector<Bytes>(lengths.size());
  Bytes padded(mine.begin(), mine.end());
  padded.resize(longest);
  auto result = gather(padded);
  for (std::size_t rank = 0; rank < result.size(); ++rank) result[rank].resize(lengths[rank]);
  return result;
}

}  // namespace

}  // namespace bootstrap

std::shared_ptr<Bootstrap> make_callback_bootstrap(CallbackBootstrapOptions options) {
  require(options.size >= 1 && options.size <= bootstrap::kMaxSize, "a group of {} ranks; 1 to {} are allowed",
          options.size, bootstrap::kMaxSize);
  require(options.rank >= 0 && options.rank < options.size, "rank {} of a group of {}; 0 to {} are allowed",
          options.rank, options.size, options.size - 1);
  require(static_cast<bool>(options.all_gather), "rank {}: the all_gather callback is empty", options.rank);
  return std::make_shared<bootstrap::CallbackBootstrap>(std::move(options));
}

}  // namespace crossdock
