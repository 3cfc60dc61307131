"""Two ranks, here threads of one process, send each token to the rank that owns its expert and get the result back."""

import threading

import numpy as np

import crossdock


def run_rank(bootstrap: crossdock.Bootstrap) -> None:
    buffer = crossdock.Buffer(bootstrap, arena_bytes=1 << 20)
    rank = buffer.rank

    # Two tokens of four channels. Token t wants expert t; of two experts rank r owns expert r.
    x = np.full((2, 4), 1 + rank, np.float32)
    received = buffer.dispatch(
        x, topk_idx=np.array([[0], [1]]), topk_weights=np.ones((2, 1), np.float32), num_experts=2
    )

    # The expert: expert 0 multiplies by 10, expert 1 by 20. What lies in this tensor is summed without another copy.
    y = buffer.combine_input(received.handle, hidden=4, dtype=crossdock.DataType.float32)
    y.numpy()[:] = received.recv_x.numpy() * (10 * (rank + 1))

    combined = buffer.combine(y, received.handle).combined_x.numpy()
    print(
        f"rank {rank} received {received.handle.num_recv_tokens} rows; "
        f"its tokens came back as {combined[0, 0]:g} and {combined[1, 0]:g}\n",
        end="",
    )


if __name__ == "__main__":
    threads = [threading.Thread(target=run_rank, args=(b,)) for b in crossdock.make_in_process_bootstraps(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
