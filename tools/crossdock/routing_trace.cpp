#include <charconv>

#include "base/bfloat16.hpp"
#include "base/error.hpp"
#include "crossdock/routing.hpp"
#include "crossdock/safetensors.hpp"

namespace crossdock::tool {

namespace {

struct TraceShape {
  std::int64_t num_layers = 0;
  std::int64_t num_ranks = 0;
  std::int64_t num_tokens = 0;
  int num_topk = 0;
  int num_experts = 0;
};

int read_num_experts(const SafetensorsView& file) {
  const auto found = file.metadata().find("num_experts");
  int result = 0;
  if (found != file.metadata().end()) {
    const std::string& text = found->second;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), result);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) result = 0;
  }
  constexpr int kMaxExperts = 32767;  // ids are int16
  if (result < 1 || result > kMaxExperts) {
    throw make_error(ErrorCode::kFormat, "{}: metadata has no num_experts from 1 to {}", file.source(), kMaxExperts);
  }
  return result;
}

TraceShape read_shape(const SafetensorsView& file) {
  constexpr std::int64_t kMaxTopk = 1024;
  const auto& shape = file.at("topk_idx").shape;
  if (shape.size() != 4 || shape[3] < 1 || shape[3] > kMaxTopk) {
    throw make_error(ErrorCode::kFormat, "{}: topk_idx is {}, not [layers, ranks, tokens, top-k]", file.source(),
                     file.at("topk_idx").description());
  }
  return {shape[0], shape[1], shape[2], static_cast<int>(shape[3]), read_num_experts(file)};
}

void check_request(const TraceRequest& request, const TraceShape& trace, const std::string& source) {
  require(request.layer >= 0 && request.layer < trace.num_layers, "{} has layers 0 to {}, not {}", source,
          trace.num_layers - 1, request.layer);
  require(request.num_ranks <= trace.num_ranks, "{} has {} ranks, fewer than {}", source, trace.num_ranks,
          request.num_ranks);
  require(request.num_tokens <= trace.num_tokens, "{} has {} tokens a rank, fewer than {}", source, trace.num_tokens,
          request.num_tokens);
  require(request.num_topk.value_or(trace.num_topk) == trace.num_topk, "{} has top-{}, not top-{}", source,
          trace.num_topk, request.num_topk.value_or(0));
  require(request.num_experts.value_or(trace.num_experts) == trace.num_experts, "{} has {} experts, not {}", source,
          trace.num_experts, request.num_experts.value_or(0));
}

void append_id(Routing& routing, std::int16_t id, const std::string& source) {
  if (id < -1 || id >= routing.shape.num_experts) {
    throw make_error(ErrorCode::kFormat, "{}: topk_idx has the expert {}, allowed are -1 to {}", source, id,
                     routing.shape.num_experts - 1);
  }
  routing.topk_idx.push_back(id);
}

}  // namespace

Routing load_trace_routing(const std::filesystem::path& path, const TraceRequest& request) {
  const SafetensorsFile file(path);
  const TraceShape trace = read_shape(file.view());
  check_request(request, trace, path.filename().string());
  const auto shape = {trace.num_layers, trace.num_ranks, trace.num_tokens, std::int64_t{trace.num_topk}};
  const auto ids = file.view().values<std::int16_t>("topk_idx", SafetensorsType::kI16, shape);
  const auto weights = file.view().values<Bfloat16>("topk_weights", SafetensorsType::kBf16, shape);

  Routing result{{request.num_ranks, request.num_tokens, trace.num_topk, trace.num_experts}, {}, {}};
  for (std::int64_t rank = 0; rank < request.num_ranks; ++rank) {
    const auto begin =
        static_cast<std::size_t>((request.layer * trace.num_ranks + rank) * trace.num_tokens * trace.num_topk);
    const auto size = static_cast<std::size_t>(request.num_tokens * trace.num_topk);
    for (const auto id : ids.subspan(begin, size)) append_id(result, id, path.filename().string());
    for (const auto weight : weights.subspan(begin, size)) result.topk_weights.push_back(to_float(weight));
  }
  return result;
}

}  // namespace crossdock::tool
