// One rank dispatches to itself and combines, through the installed class.
#include <cstdio>
#include <exception>

#include <ATen/ATen.h>

#include <crossdock/torch/deep_ep_buffer.h>

int main() {
  try {
    crossdock::torch::DeepEPBuffer buffer(crossdock::make_in_process_bootstraps(1).front(), 0, 1);
    buffer.init();
    const at::Tensor x = at::ones({3, 64}, at::kBFloat16);
    const at::Tensor ids = at::zeros({3, 1}, at::kLong);
    const auto layout = buffer.getDispatchLayout(ids, 1);
    const auto received =
        buffer.dispatch(x, std::nullopt, std::nullopt, layout.num_tokens_per_rank, layout.num_tokens_per_rdma_rank,
                        layout.is_token_in_rank, layout.num_tokens_per_expert, ids, at::ones({3, 1}));
    const auto combined = buffer.combine(received.recv_x * 2, *received.handle);
    if (!at::equal(combined.recv_x, x * 2)) {
      std::fprintf(stderr, "the sums are wrong\n");
      return 1;
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
