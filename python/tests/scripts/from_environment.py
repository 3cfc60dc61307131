"""A program that finds its ranks by what torchrun, mpirun or srun set, without torch or mpi4py."""

import numpy as np

import crossdock

buffer = crossdock.Buffer(crossdock.make_bootstrap_from_environment(timeout=30), 1 << 20)
rank, size = buffer.rank, buffer.num_ranks
x = np.full((1, 4), rank, np.int32)
out = buffer.dispatch(x, np.array([[(rank + 1) % size]]), np.ones((1, 1), np.float32), num_experts=size)
assert out.recv_x.numpy().tolist() == [[(rank - 1) % size] * 4]
buffer.destroy()
print(f"rank {rank} of {size} passed", flush=True)
