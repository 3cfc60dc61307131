"""
The C++ library as Python objects. Use it through the package crossdock.
"""

from collections.abc import Callable, Sequence
import enum
from typing import Any

import numpy.typing
import torch

import crossdock.typing


def version() -> str:
    """Version of the library."""

class ErrorCode(enum.Enum):
    """What kind of failure an Error is."""

    INVALID_ARGUMENT = 0
    """an argument is wrong on this rank, or on Error.rank"""

    MISMATCH = 1
    """ranks called with arguments that do not fit together"""

    CAPACITY = 2
    """an arena, a table or a limit is too small"""

    TIMEOUT = 3
    """a deadline passed; Error.wait says who was waited for"""

    PEER_LOST = 4
    """a peer died, left, or gave up"""

    BOOTSTRAP = 5
    """ranks could not find or did not trust each other"""

    SYSTEM = 6
    """the operating system refused; Error.system_error has errno"""

    STATE = 7
    """
    the object cannot do this now: destroyed, or broken by an earlier error
    """

    FORMAT = 8
    """a file or a message is malformed"""

    UNSUPPORTED = 9
    """this build or this machine cannot do it"""

class WaitFailure:
    """What a wait that failed was waiting for."""

    @property
    def operation(self) -> str:
        """"dispatch", "combine", "bootstrap", ..."""

    @property
    def phase(self) -> str:
        """"announce", "place", "send", ..."""

    @property
    def epoch(self) -> int:
        """number of the operation in its buffer, from 1"""

    @property
    def rank(self) -> int:
        """the rank waited for"""

    @property
    def expected(self) -> int: ...

    @property
    def seen(self) -> int: ...

class Config:
    """
    DeepEP's five tuning numbers. They are checked as there; a CPU has nothing to tune by them.
    """

    def __init__(self, num_sms: int = 24, num_max_nvl_chunked_send_tokens: int = 6, num_max_nvl_chunked_recv_tokens: int = 256, num_max_rdma_chunked_send_tokens: int = 6, num_max_rdma_chunked_recv_tokens: int = 256) -> None: ...

    @property
    def num_sms(self) -> int: ...

    @property
    def num_max_nvl_chunked_send_tokens(self) -> int: ...

    @property
    def num_max_nvl_chunked_recv_tokens(self) -> int: ...

    @property
    def num_max_rdma_chunked_send_tokens(self) -> int: ...

    @property
    def num_max_rdma_chunked_recv_tokens(self) -> int: ...

    def get_nvl_buffer_size_hint(self, hidden_bytes: int, num_ranks: int) -> int:
        """The function of that name for this configuration."""

    def get_rdma_buffer_size_hint(self, hidden_bytes: int, num_ranks: int) -> int:
        """The function of that name for this configuration."""

    def __eq__(self, other: object, /) -> bool: ...

    def __repr__(self) -> str: ...

def get_dispatch_config(num_ranks: int, num_sms: int = 24) -> Config:
    """
    DeepEP's recommended configuration for dispatch; numbers of ranks between those of its table are rounded up.
    """

def get_combine_config(num_ranks: int, num_sms: int = 24) -> Config:
    """The same for combine."""

def get_arena_size_hint(*, num_recv_tokens: int, row_bytes: int, num_scales: int = 0, scale_bytes: int = 4, num_topk: int = 0, combine_row_bytes: int = 0, operations_in_flight: int = 1) -> int:
    """
    Bytes of arena that hold the tensors of a throughput dispatch that receives num_recv_tokens rows.

    combine_row_bytes: bytes of a row that combine_input() or staging holds, 0 if not in the arena.
    """

def get_nvl_buffer_size_hint(config: Config, hidden_bytes: int, num_ranks: int) -> int:
    """Bytes that DeepEP asks for in its NVLink buffer, by its formula."""

def get_rdma_buffer_size_hint(config: Config, hidden_bytes: int, num_ranks: int) -> int:
    """Bytes that DeepEP asks for in its RDMA buffer, by its formula."""

def get_low_latency_rdma_size_hint(num_max_dispatch_tokens_per_rank: int, hidden: int, num_ranks: int, num_experts: int) -> int:
    """
    Bytes of arena for low-latency mode: one dispatch and its combine at a time, in any row format.
    """

class DataType(enum.Enum):
    """Element types, by numpy's and ml_dtypes' names."""

    bool = 0

    uint8 = 1

    int8 = 2

    int32 = 3

    int64 = 4

    float8_e4m3fn = 5

    float16 = 6

    bfloat16 = 7

    float32 = 8

class Tensor:
    """
    Memory with a dtype, a shape and strides: the form in which crossdock returns results.

    A received tensor is a piece of the buffer's arena, which is given back when this object and all arrays made of it are gone. It is exported without a copy by numpy(), torch(), and to everything that takes DLPack (numpy.from_dlpack, jax.dlpack.from_dlpack, torch.from_dlpack, cupy.from_dlpack). Once the operation has ended it may be used on any stream.
    """

    @staticmethod
    def borrow(data_ptr: int, dtype: DataType, shape: Sequence[int], strides: Sequence[int] | None = None, owner: object | None = None, cuda_device: int = -1) -> Tensor:
        """
        A tensor over memory at an address, which `owner` keeps alive. Strides are in elements; without them it is row-major. cuda_device -1 is the CPU.
        """

    @property
    def dtype(self) -> DataType: ...

    @property
    def shape(self) -> tuple: ...

    @property
    def strides(self) -> tuple:
        """In elements."""

    @property
    def device(self) -> str:
        """"cpu" or "cuda:0", ..."""

    @property
    def nbytes(self) -> int: ...

    def data_ptr(self) -> int: ...

    def first(self, count: int) -> Tensor:
        """The first entries along dimension 0, sharing the memory."""

    def numpy(self) -> numpy.typing.NDArray:
        """A numpy array of the same memory. bfloat16 and FP8 need ml_dtypes."""

    def torch(self) -> torch.Tensor:
        """A torch tensor of the same memory."""

    def __dlpack__(self, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...

    def __repr__(self) -> str: ...

class Bootstrap:
    """
    A group of ranks that can exchange small messages, used only while a buffer is made.

    Collective: every rank calls the same methods in the same order.
    """

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def all_gather(self, mine: bytes, timeout: float = 100.0) -> list[bytes]:
        """Each rank's bytes, in rank order. The timeout is in seconds."""

    def barrier(self, timeout: float = 100.0) -> None:
        """Returns once every rank has called it."""

def make_in_process_bootstraps(size: int) -> list[Bootstrap]:
    """
    Ranks as threads of one process: connected groups, element i is for rank i.
    """

def make_callback_bootstrap(rank: int, size: int, all_gather: Callable[[bytes], Sequence[bytes]]) -> Bootstrap:
    """
    A group that gathers through a function: it gets this rank's bytes, and returns every rank's in rank order. All contributions of a call have equal length.
    """

def make_tcp_bootstrap(*, address: str, port: int, rank: int, size: int, secret: str = '', timeout: float = 100.0) -> Bootstrap:
    """
    TCP rendezvous at rank 0, which listens on `address` and `port`. With a secret every rank must know it.
    """

def make_bootstrap_from_environment(timeout: float = 100.0) -> Bootstrap:
    """
    TCP rendezvous as the environment of torchrun, mpirun or srun says; a single rank if it says nothing.
    """

class Completion(enum.Enum):
    """When a call returns."""

    SYNCHRONOUS = 0
    """when the results may be used"""

    ASYNCHRONOUS = 1
    """early; the results may be used after the returned event"""

    HOOK = 2
    """low-latency operations: the call sends, the returned hook receives"""

    STREAM = 3
    """when the operation is queued on the caller's stream"""

class Allocation(enum.Enum):
    """Which stream the results belong to."""

    CALLER_STREAM = 0

    COMMUNICATION_STREAM = 1
    """needs a previous_event and ASYNCHRONOUS"""

class Event:
    """
    Completion of an operation; without arguments a complete one. Thread-safe.
    """

    def __init__(self) -> None: ...

    def is_complete(self) -> bool:
        """True once the operation has ended, well or badly. Never blocks."""

    def wait(self) -> None:
        """
        Blocks until the operation has ended, and raises the Error with which it ended, if any.
        """

def capture_stream(device: object, stream: object | None = None) -> Event:
    """
    The point that a stream of a device has reached: an event that is complete once what was queued before is done.
    """

class OperationOptions:
    """
    How one operation runs. May differ between ranks.

    timeout: seconds. wait_recv_cost_stats: int64 [ranks], to which the nanoseconds are added that this rank waits for each. stream: of the caller, for a buffer on a CUDA device: the operation starts after what is queued on it, where arrays are expected too. An address, or a stream of torch or of what has __cuda_stream__; None is the default stream.
    """

    def __init__(self, *, completion: Completion = Completion.SYNCHRONOUS, allocation: Allocation = Allocation.CALLER_STREAM, previous_event: Event | None = None, timeout: float | None = None, wait_recv_cost_stats: crossdock.typing.ArrayLike | None = None, stream: object | None = None) -> None: ...

class DispatchLayout:
    """Where the tokens of a rank go."""

    def __init__(self, num_tokens_per_rank: crossdock.typing.ArrayLike, num_tokens_per_expert: crossdock.typing.ArrayLike, is_token_in_rank: crossdock.typing.ArrayLike) -> None: ...

    @property
    def num_tokens_per_rank(self) -> Tensor:
        """int32 [ranks]"""

    @property
    def num_tokens_per_node(self) -> Tensor | None:
        """int32 [nodes], None with one node"""

    @property
    def num_tokens_per_expert(self) -> Tensor:
        """int32 [experts]"""

    @property
    def is_token_in_rank(self) -> Tensor:
        """bool [tokens, ranks]"""

class ParityMatrices:
    """DeepEP's handle; crossdock itself does not need it."""

    @property
    def rank_prefix_matrix(self) -> Tensor:
        """int32 [ranks, ranks]"""

    @property
    def channel_prefix_matrix(self) -> Tensor:
        """int32 [ranks, channels]"""

    @property
    def recv_channel_prefix_matrix(self) -> Tensor:
        """int32 [ranks, channels]"""

    @property
    def recv_src_idx(self) -> Tensor:
        """int32 [received rows]"""

    @property
    def is_token_in_rank(self) -> Tensor:
        """bool [tokens, ranks]"""

    @property
    def send_head(self) -> Tensor:
        """int32 [tokens, ranks]"""

class DispatchHandle:
    """
    What combine needs to know of its dispatch. For any number of combines and cached dispatches of its buffer, which it may outlive.

    All members but num_recv_rows and has_worst_case wait for the dispatch to end, and raise what it ended with.
    """

    @property
    def num_tokens(self) -> int:
        """Tokens that this rank dispatched."""

    @property
    def num_recv_tokens(self) -> int:
        """Rows that this rank received, without the padding of a worst case."""

    @property
    def num_recv_rows(self) -> int:
        """Rows of the received tensors."""

    @property
    def has_worst_case(self) -> bool:
        """Of a dispatch with num_worst_tokens."""

    def recv_src_idx(self) -> Tensor:
        """
        int32 [num_recv_rows]: each row's index among its source rank's tokens.
        """

    def rank_prefix_matrix(self) -> Tensor:
        """
        int32 [ranks, ranks]: [i][j] is the number of rows that ranks up to and including i send to rank j.
        """

    def parity_matrices(self, num_channels: int) -> ParityMatrices:
        """DeepEP's matrices for that many channels, computed on each call."""

class DispatchOutput:
    """
    M received rows, ordered by (source rank, source token). The tensors are in the arena.
    """

    @property
    def recv_x(self) -> Tensor:
        """[M, hidden], dtype of x"""

    @property
    def recv_x_scales(self) -> Tensor | None:
        """[M, scales], dtype of x_scales, row-major"""

    @property
    def recv_topk_idx(self) -> Tensor | None:
        """[M, top-k]: number within this rank, or -1"""

    @property
    def recv_topk_weights(self) -> Tensor | None:
        """float32 [M, top-k], 0 where the id is -1"""

    @property
    def num_recv_tokens_per_expert(self) -> list[int]:
        """
        Selections of each local expert, rounded up to expert_alignment; empty for cached and worst-case dispatches.
        """

    @property
    def handle(self) -> DispatchHandle: ...

    @property
    def event(self) -> Event:
        """complete already if the call was synchronous"""

class CombineOutput:
    """The sums of the rows of each token, by ascending rank."""

    @property
    def combined_x(self) -> Tensor:
        """[tokens, hidden], dtype of x"""

    @property
    def combined_topk_weights(self) -> Tensor | None:
        """float32 [tokens, top-k]"""

    @property
    def event(self) -> Event: ...

class RowFormat(enum.Enum):
    """What a low-latency dispatch makes of a row."""

    BFLOAT16 = 0
    """as it is"""

    FLOAT8 = 1
    """E4M3, a float32 scale for each 128 channels"""

    FLOAT8_POWER_OF_TWO = 2
    """E4M3, float32 scales that are powers of two"""

    FLOAT8_UE8M0 = 3
    """E4M3, the same scales as exponent bytes, four to an int32"""

class LowLatencyHandle:
    """
    What low_latency_combine needs to know of its dispatch. For any number of combines.
    """

    @property
    def num_tokens(self) -> int: ...

    @property
    def num_max_dispatch_tokens_per_rank(self) -> int: ...

    @property
    def hidden(self) -> int: ...

    @property
    def num_experts(self) -> int: ...

    def packed_recv_src_info(self) -> Tensor:
        """
        int32 [local experts, ranks * M]: token of each row at its source; defined once the dispatch was received.
        """

    def packed_recv_layout_range(self) -> Tensor:
        """
        int64 [local experts, ranks]: rows of each source, count in the low half, first row in the high half.
        """

class ReceiveHook:
    """
    The second half of an operation with Completion.HOOK. Called once, in the order of the operations on all ranks, by one thread at a time.
    """

    def __call__(self) -> None:
        """Waits for the other ranks' rows; then the results may be used."""

class LowLatencyDispatchOutput:
    """
    Rows of each local expert, ordered by (source rank, source token), from row 0.
    """

    @property
    def packed_recv_x(self) -> Tensor:
        """bfloat16 or FP8 [local experts, ranks * M, hidden]"""

    @property
    def packed_recv_x_scales(self) -> Tensor | None:
        """
        FP8 only: float32 (UE8M0: int32, four to one) [local experts, ranks * M, groups of 128 channels], column-major in the last two dimensions
        """

    @property
    def packed_recv_count(self) -> Tensor:
        """int32 [local experts]"""

    @property
    def handle(self) -> LowLatencyHandle: ...

    @property
    def event(self) -> Event: ...

    @property
    def hook(self) -> ReceiveHook | None:
        """only of a call with Completion.HOOK"""

class LowLatencyCombineOutput:
    """The weighted sums of each token's rows."""

    @property
    def combined_x(self) -> Tensor:
        """bfloat16 [tokens, hidden]"""

    @property
    def event(self) -> Event: ...

    @property
    def hook(self) -> ReceiveHook | None:
        """only of a call with Completion.HOOK"""

class PhaseTimes:
    """Phases of the last finished operation, in microseconds."""

    @property
    def layout_us(self) -> float:
        """counting and row offsets"""

    @property
    def announce_us(self) -> float:
        """exchanging counts, until all ranks had announced"""

    @property
    def place_us(self) -> float:
        """slabs, until all ranks had placed"""

    @property
    def copy_us(self) -> float:
        """moving or reducing rows"""

    @property
    def wait_us(self) -> float:
        """waiting for the peers to finish"""

class HugePages(enum.Enum):
    AUTO = 0
    """where the system gives them"""

    NEVER = 1

class Buffer:
    """
    One rank's end of a group that dispatches and combines.

    Collective: the constructor and the operations are called by all ranks in the same order. Threads: calls of several threads come one after the other. The GIL is released while a call works or waits.
    """

    def __init__(self, bootstrap: Bootstrap, arena_bytes: int, *, max_experts: int = 2048, ranks_per_node: int = 0, timeout: float = 100.0, setup_timeout: float = 100.0, huge_pages: HugePages = HugePages.AUTO, mask_lost_ranks: bool = False, device: object = 'cpu') -> None:
        """
        arena_bytes: where received rows live; get_arena_size_hint says how many an operation needs.
        ranks_per_node: 0 means all. timeout: seconds for each half of an operation; setup_timeout: for this call.
        mask_lost_ranks: a rank that dies, leaves or misses a deadline is masked instead of breaking the buffer.
        device: where all tensors are: "cpu", "cuda" (the first), "cuda:1", ..., or a torch.device.
        """

    @property
    def rank(self) -> int: ...

    @property
    def num_ranks(self) -> int: ...

    @property
    def is_available(self) -> bool:
        """Neither destroyed nor broken."""

    @property
    def arena_bytes_free(self) -> int:
        """
        Bytes of this rank's arena that no tensor holds; they need not be contiguous.
        """

    def arena(self) -> Tensor:
        """
        The whole arena, uint8 [arena_bytes_total], for looking at: what is written there ends up in received tensors.
        """

    @property
    def arena_bytes_total(self) -> int: ...

    def local_experts(self, num_experts: int) -> tuple[int, int]:
        """First global id and number of the experts of this rank."""

    @property
    def device(self) -> str:
        """"cpu" or "cuda:0", ..."""

    @property
    def communication_stream(self) -> int:
        """
        Address of the stream that kernels run on; 0 on a CPU. What must come after an operation waits for its event, not for this stream.
        """

    @property
    def last_phase_times(self) -> PhaseTimes: ...

    def get_dispatch_layout(self, topk_idx: crossdock.typing.ArrayLike, num_experts: int, *, options: OperationOptions = ...) -> DispatchLayout:
        """
        Counts where the tokens of this rank go; local. topk_idx: int64 or int32 [tokens, top-k], -1 selects nothing.
        """

    def dispatch(self, x: crossdock.typing.ArrayLike, topk_idx: crossdock.typing.ArrayLike | None = None, topk_weights: crossdock.typing.ArrayLike | None = None, *, num_experts: int = 0, x_scales: crossdock.typing.ArrayLike | None = None, layout: DispatchLayout | None = None, expert_alignment: int = 1, num_worst_tokens: int | None = None, cumulative_local_expert_recv_stats: crossdock.typing.ArrayLike | None = None, config: Config | None = None, options: OperationOptions = ...) -> DispatchOutput:
        """
        Sends each token to the ranks that own its experts. Collective.

        x: [tokens, hidden] of any dtype. topk_idx: int64 or int32 [tokens, top-k], ids or -1, and topk_weights:
        float32 [tokens, top-k]; both or neither, and without them `layout` is required, which else is computed.
        num_experts: 0 takes it from `layout`. x_scales: [tokens, scales] of any dtype and strides.
        expert_alignment: returned counts are rounded up to a multiple of it. num_worst_tokens: rows of the
        received tensors, whatever is received. cumulative_local_expert_recv_stats: int32 [local experts], to which
        the received selections are added.
        """

    def dispatch_cached(self, x: crossdock.typing.ArrayLike, handle: DispatchHandle, *, x_scales: crossdock.typing.ArrayLike | None = None, config: Config | None = None, options: OperationOptions = ...) -> DispatchOutput:
        """
        A dispatch that repeats the routing of an earlier one on other rows. Collective.
        """

    def combine(self, x: crossdock.typing.ArrayLike, handle: DispatchHandle, *, topk_weights: crossdock.typing.ArrayLike | None = None, bias_0: crossdock.typing.ArrayLike | None = None, bias_1: crossdock.typing.ArrayLike | None = None, out: crossdock.typing.ArrayLike | None = None, config: Config | None = None, options: OperationOptions = ...) -> CombineOutput:
        """
        Brings the rows back and sums them at their token's rank, by ascending rank, unweighted. Collective.

        x: bfloat16 or float32 [received rows, hidden], read in place if it lies in the arena. topk_weights:
        float32 [received rows, top-k], summed likewise. bias_0, bias_1, out: [tokens, hidden] of the dtype of x.
        """

    def combine_input(self, handle: DispatchHandle, hidden: int, dtype: DataType = DataType.bfloat16) -> Tensor:
        """
        A tensor [handle.num_recv_rows, hidden] in the arena, contents undefined; combine reads it in place.
        """

    def low_latency_dispatch(self, x: crossdock.typing.ArrayLike, topk_idx: crossdock.typing.ArrayLike, num_max_dispatch_tokens_per_rank: int, num_experts: int, *, format: RowFormat = RowFormat.FLOAT8, cumulative_local_expert_recv_stats: crossdock.typing.ArrayLike | None = None, options: OperationOptions = ...) -> LowLatencyDispatchOutput:
        """
        Sends one row for each token and expert, packed by expert at the receiver. Collective.

        x: bfloat16 [tokens, hidden]. topk_idx: int64 or int32 [tokens, top-k], ids or -1.
        num_max_dispatch_tokens_per_rank: at least the tokens of any rank, equal on all of them.
        cumulative_local_expert_recv_stats: int32 [local experts], to which the received counts are added.
        """

    def low_latency_combine(self, x: crossdock.typing.ArrayLike, topk_weights: crossdock.typing.ArrayLike, handle: LowLatencyHandle, *, topk_idx: crossdock.typing.ArrayLike | None = None, out: crossdock.typing.ArrayLike | None = None, zero_copy: bool = False, use_logfmt: bool = False, options: OperationOptions = ...) -> LowLatencyCombineOutput:
        """
        Brings the rows back and sums them, weighted by topk_weights. Collective.

        x: bfloat16 [local experts, ranks * M, hidden], read in place if it lies in the arena. topk_weights:
        float32 [tokens, top-k]. out: bfloat16 [tokens, hidden]. zero_copy: x is what next_combine_buffer gave for
        this handle, and must not be written again. use_logfmt: rows travel as LogFMT-10; equal on all ranks.
        topk_idx: if given, checked to be that of the dispatch.
        """

    def next_combine_buffer(self, handle: LowLatencyHandle) -> Tensor:
        """
        A tensor bfloat16 [local experts, ranks * M, hidden] in the arena, contents undefined, for one low_latency_combine with zero_copy.
        """

    def clean_low_latency_buffer(self, num_max_dispatch_tokens_per_rank: int, hidden: int, num_experts: int) -> None:
        """
        For callers of DeepEP, where signals must be zeroed; here nothing needs to be done.
        """

    def mask_rank(self, rank: int, masked: bool = True) -> None:
        """
        Goes on without a rank, from the next operation on, or lets it in again. Local, but all ranks that go on must mask the same ones.
        """

    def masked_ranks(self) -> list[int]:
        """Ranks that this one masks, those that were lost included; ascending."""

    def clear_masks(self) -> None:
        """Lets all masked ranks in again, from the next operation on."""

    def capture(self, stream: object | None = None) -> Event:
        """The point that a stream has reached; on a CPU a complete event."""

    def refuse(self, message: str, low_latency: bool = False, worst_case: bool = False) -> None:
        """
        Takes the place of this rank's next operation, for a caller that cannot make its arguments: the other ranks' calls raise the message, and the buffer goes on.
        """

    def destroy(self) -> None:
        """
        Leaves the group, after the asynchronous operations that are queued. Local and idempotent. Tensors from the arena stay valid.
        """
