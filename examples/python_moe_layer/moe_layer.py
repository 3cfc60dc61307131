"""One layer of a trained mixture-of-experts model through deep_ep, as a serving engine runs it.

moe_layer.py data/moe_layer.safetensors [ranks]

Ranks are processes joined by gloo. Each has its share of the recorded tokens and of the experts, which are torch's
matrix products. The layer runs twice: once as in prefill (normal mode), once as in decoding (low-latency mode, two
micro-batches whose transfers overlap the other's work by hooks). Both outputs are compared with the recorded one.
Needs torch and safetensors.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile

import torch
import torch.distributed as dist
from safetensors.torch import load_file

from crossdock import deep_ep

NUM_TOKENS, HIDDEN, NUM_EXPERTS = 2048, 256, 64


@dataclasses.dataclass
class Tokens:
    x: torch.Tensor
    topk_idx: torch.Tensor
    topk_weights: torch.Tensor
    y: torch.Tensor
    """what the model gave"""


@dataclasses.dataclass
class Experts:
    """The experts of one rank."""

    w_gate: torch.Tensor
    w_up: torch.Tensor
    w_down: torch.Tensor

    def __call__(self, expert: int, x: torch.Tensor) -> torch.Tensor:
        x = x.float()
        inner = torch.nn.functional.silu(x @ self.w_gate[expert].float().T) * (x @ self.w_up[expert].float().T)
        return inner @ self.w_down[expert].float().T


def prefill(buffer: deep_ep.Buffer, tokens: Tokens, experts: Experts) -> torch.Tensor:
    """Normal mode: a row for each rank that a token goes to; the experts apply the weights."""
    per_rank, _, per_expert, in_rank, event = buffer.get_dispatch_layout(tokens.topk_idx, NUM_EXPERTS)
    x, ids, weights, counts, handle, event = buffer.dispatch(
        tokens.x,
        num_tokens_per_rank=per_rank,
        is_token_in_rank=in_rank,
        num_tokens_per_expert=per_expert,
        topk_idx=tokens.topk_idx,
        topk_weights=tokens.topk_weights,
        async_finish=True,
    )
    event.current_stream_wait()
    y = torch.zeros(x.shape)
    for expert in range(len(counts)):
        rows, columns = (ids == expert).nonzero(as_tuple=True)
        y.index_add_(0, rows, experts(expert, x[rows]) * weights[rows, columns, None])
    combined, _, _ = buffer.combine(y.bfloat16(), handle)
    return combined


def decode(buffer: deep_ep.Buffer, batches: list[Tokens], most: int, experts: Experts) -> list[torch.Tensor]:
    """Low-latency mode: a row for each token and expert; combine applies the weights. Every send is under way before
    anything is received. No batch of any rank has more than `most` tokens."""
    sent = [
        buffer.low_latency_dispatch(batch.x, batch.topk_idx, most, NUM_EXPERTS, use_fp8=False, return_recv_hook=True)
        for batch in batches
    ]
    combining = []
    for batch, (x, counts, handle, _, receive) in zip(batches, sent):
        receive()
        y = buffer.get_next_low_latency_combine_buffer(handle)
        for expert, count in enumerate(counts.tolist()):
            y[expert, :count] = experts(expert, x[expert, :count])
        combining.append(
            buffer.low_latency_combine(
                y, batch.topk_idx, batch.topk_weights, handle, zero_copy=True, return_recv_hook=True
            )
        )
    results = []
    for combined, _, receive in combining:
        receive()
        results.append(combined)
    return results


def share_of(file: str, rank: int, size: int) -> tuple[Tokens, Experts]:
    """The tokens of the recording's eight ranks, and its experts, are split among the ranks that there are."""
    data = load_file(file)
    tokens = [data[name].flatten(0, 1).tensor_split(size)[rank] for name in ("x", "topk_idx", "topk_weights", "y")]
    experts = [data[name].tensor_split(size)[rank] for name in ("w_gate", "w_up", "w_down")]
    return Tokens(*(t.contiguous() for t in tokens)), Experts(*experts)


def check(name: str, output: torch.Tensor, tokens: Tokens) -> str:
    """bfloat16 has 8 bits, and each token is the sum of up to 8 rounded rows: 1/128 of the largest output."""
    error = (output.float() - tokens.y).abs().max() / tokens.y.abs().max()
    if not error <= 1 / 128:
        raise SystemExit(f"{name}: the largest error is {error:.5f} of the largest output, allowed is {1 / 128:.5f}")
    return f"{name} {error:.5f}"


def run_rank(rank: int, size: int, file: str, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    tokens, experts = share_of(file, rank, size)
    most = NUM_TOKENS // size // 2 + 1
    low_latency_bytes = deep_ep.Buffer.get_low_latency_rdma_size_hint(most, HIDDEN, size, NUM_EXPERTS)
    buffer = deep_ep.Buffer(dist.group.WORLD, 16 << 20, low_latency_bytes, low_latency_mode=True)

    lines = [check("prefill", prefill(buffer, tokens, experts), tokens)]
    halves = [Tokens(*parts) for parts in zip(*(t.tensor_split(2) for t in dataclasses.astuple(tokens)))]
    for number, (output, half) in enumerate(zip(decode(buffer, halves, most, experts), halves)):
        lines.append(check(f"decode {number}", output, half))
    print(f"rank {rank} passed: largest errors {', '.join(lines)}\n", end="", flush=True)
    buffer.destroy()
    dist.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    size = int(sys.argv[2]) if len(sys.argv) == 3 else 4
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(run_rank, args=(size, sys.argv[1], f"{folder}/store"), nprocs=size)
