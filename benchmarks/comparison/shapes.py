"""What is compared: shapes of the job, and the bars that crossdock has to pass at some of them."""

import dataclasses
import json
import pathlib
import struct


@dataclasses.dataclass(frozen=True)
class Shape:
    ranks: int
    tokens: int
    hidden: int
    topk: int
    experts: int
    trace: str = ""  # FILE.safetensors[:layer], or empty for uniform routing

    @property
    def row_bytes(self):
        return 2 * self.hidden

    @property
    def title(self):
        routing = pathlib.Path(self.trace).name if self.trace else "uniform"
        return (f"R={self.ranks}, T={self.tokens}, H={self.hidden}, top-{self.topk} of {self.experts} experts, "
                f"bf16, {routing} routing")


@dataclasses.dataclass(frozen=True)
class Bars:
    """How many times faster crossdock has to be at least."""

    dispatch: float  # than MPI_Alltoallv of Open MPI
    dispatch_one_sided: float  # than the one-sided variant of Open MPI
    combine: float  # than MPI_Alltoallv of Open MPI


BARS = {
    Shape(8, 4096, 7168, 8, 256): Bars(3.8, 1.9, 3.1),
    Shape(4, 4096, 7168, 8, 64): Bars(3.6, 1.9, 3.1),
    Shape(2, 4096, 7168, 8, 64): Bars(3.1, 1.7, 3.0),
    Shape(2, 4096, 2048, 8, 256): Bars(3.2, 1.9, 2.9),
}

GROWTH_SHAPES = (Shape(8, 4096, 7168, 8, 256), Shape(8, 8192, 7168, 8, 256))
MOST_GROWTH = 2.15
MOST_MEMORY = 1.3
LEAST_COPYING = 0.85


def parse_shape(text):
    """'R,T,H,K,E' as a Shape; ValueError says what is wrong."""
    parts = text.split(",")
    if len(parts) != 5 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"a shape is five positive numbers R,T,H,K,E, not '{text}'")
    shape = Shape(*(int(part) for part in parts))
    if shape.topk > shape.experts:
        raise ValueError(f"top-{shape.topk} of {shape.experts} experts is impossible")
    return shape


def trace_shapes(data_folder):
    """The recorded traces at 8 ranks, their first layers."""
    return [
        Shape(8, 4096, 7168, 8, experts, f"{data_folder / f'trace_e{experts}_k8.safetensors'}:0")
        for experts in (64, 256)
        if (data_folder / f"trace_e{experts}_k8.safetensors").exists()
    ]


def write_raw_routing(shape, path):
    """Writes int16 ids [ranks, tokens, topk] of the shape's trace, which is what the MPI peers read."""
    name, _, layer = shape.trace.partition(":")
    with open(name, "rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        tensor = json.loads(file.read(header_bytes))["topk_idx"]
        _, ranks, tokens, topk = tensor["shape"]
        if tensor["dtype"] != "I16" or ranks < shape.ranks or tokens < shape.tokens or topk != shape.topk:
            raise ValueError(f"{name} holds ids {tensor['dtype']} {tensor['shape']}, too little for {shape.title}")
        begin = 8 + header_bytes + tensor["data_offsets"][0] + int(layer or 0) * ranks * tokens * topk * 2
        with open(path, "wb") as raw:
            for rank in range(shape.ranks):
                file.seek(begin + rank * tokens * topk * 2)
                raw.write(file.read(shape.tokens * topk * 2))
