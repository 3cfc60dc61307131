// The expert of a low-latency benchmark.
#include <cstring>
#include <vector>

#include "crossdock/low_latency_verify.hpp"

namespace crossdock::tool {

namespace {

class PackedExpert {
 public:
  PackedExpert(const BenchConfig& config, const PackedTensors& received, const Tensor& out)
      : received_(received),
        hidden_(static_cast<std::size_t>(config.hidden)),
        places_(static_cast<std::size_t>(out.size(1))),
        out_(out.data_as<Bfloat16>()),
        row_scales_(static_cast<std::size_t>(config.num_scales())) {}

  void copy_rows(std::size_t expert, std::size_t count) {
    const std::size_t first = expert * places_ * hidden_;
    if (received_.x.data() == out_) return;  // in place
    if (!received_.scales) {
      std::memcpy(out_ + first, received_.x.data_as<Bfloat16>() + first, count * hidden_ * sizeof(Bfloat16));
      return;
    }
    const auto* codes = received_.x.data_as<std::uint8_t>() + first;
    for (std::size_t row = 0; row < count; ++row) {
      gather_scales(expert, row);
      dequantize({codes + row * hidden_, hidden_}, row_scales_, {out_ + first + row * hidden_, hidden_});
    }
  }

  void mark_rows(std::size_t expert, std::size_t count, int number) const {
    for (std::size_t row = 0; row < count; ++row)
      mark_row({out_ + (expert * places_ + row) * hidden_, hidden_}, number);
  }

 private:
  void gather_scales(std::size_t expert, std::size_t row) {
    const Tensor& scales = *received_.scales;
    const auto stride = [&](int dimension) { return static_cast<std::size_t>(scales.stride(dimension)); };
    const float* from = scales.data_as<float>() + expert * stride(0) + row * stride(1);
    for (std::size_t group = 0; group < row_scales_.size(); ++group) row_scales_[group] = from[group * stride(2)];
  }

  const PackedTensors& received_;
  std::size_t hidden_;
  std::size_t places_;
  Bfloat16* out_;
  std::vector<float> row_scales_;
};

}  // namespace

void answer_packed_rows(const BenchConfig& config, const PackedTensors& received, ExpertMark mark, int first_expert,
                        const Tensor& out) {
  PackedExpert rows(config, received, out);
  const auto* counts = received.count.data_as<std::int32_t>();
  for (std::size_t expert = 0; expert < static_cast<std::size_t>(out.size(0)); ++expert) {
    const auto count = static_cast<std::size_t>(counts[expert]);
    if (count == 0) continue;
    rows.copy_rows(expert, count);
    if (mark == ExpertMark::kExpert) rows.mark_rows(expert, count, first_expert + static_cast<int>(expert));
  }
}

}  // namespace crossdock::tool
