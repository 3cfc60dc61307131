"""Arrays of every framework go in and out without a copy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import crossdock
from ranks import run_buffers

DTYPES = ["bool", "uint8", "int8", "int32", "int64", "float16", "float32", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]


def dispatch_to_self(buffer: crossdock.Buffer, x: object) -> crossdock.Tensor:
    ids = np.zeros((2, 1), np.int32)
    return buffer.dispatch(x, ids, np.ones((2, 1), np.float32), num_experts=1).recv_x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numpy_round_trip(dtype: object) -> None:
    x = np.arange(6).reshape(2, 3).astype(dtype)

    def body(buffer: crossdock.Buffer) -> None:
        received = dispatch_to_self(buffer, x)
        array = received.numpy()
        assert array.dtype == x.dtype and array.tobytes() == x.tobytes()
        assert array.__array_interface__["data"][0] == received.data_ptr()
        assert received.dtype.name == x.dtype.name

    run_buffers(1, body)


def test_strided_and_read_only_input() -> None:
    wide = np.arange(12, dtype=np.float32).reshape(2, 6).astype(ml_dtypes.bfloat16)
    view = wide[:, :4]
    view.flags.writeable = False

    def body(buffer: crossdock.Buffer) -> None:
        assert np.array_equal(dispatch_to_self(buffer, view).numpy(), wide[:, :4])

    run_buffers(1, body)


@pytest.mark.parametrize("name", ["bfloat16", "float32", "float8_e4m3fn", "int64", "bool"])
def test_torch_round_trip(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(6).reshape(2, 3).to(getattr(torch, name))

    def body(buffer: crossdock.Buffer) -> None:
        received = dispatch_to_self(buffer, x)
        tensor = received.torch()
        assert tensor.dtype == x.dtype and torch.equal(tensor.float(), x.float())
        assert tensor.data_ptr() == received.data_ptr()

    run_buffers(1, body)


def test_jax_round_trip() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(6, dtype="bfloat16").reshape(2, 3)

    def body(buffer: crossdock.Buffer) -> None:
        received = dispatch_to_self(buffer, x)
        array = jax.dlpack.from_dlpack(received)
        assert array.dtype == x.dtype and bool((array == x).all())
        assert array.unsafe_buffer_pointer() == received.data_ptr()

    run_buffers(1, body)


def test_numpy_from_dlpack() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        received = dispatch_to_self(buffer, np.arange(6, dtype=np.float32).reshape(2, 3))
        array = np.from_dlpack(received)
        assert array.ctypes.data == received.data_ptr()
        assert received.shape == (2, 3) and received.strides == (3, 1) and received.device == "cpu"
        assert received.__dlpack_device__() == (1, 0) and received.nbytes == 24
        assert repr(received) == "crossdock.Tensor(float32 [2, 3])"

    run_buffers(1, body)


def test_slab_is_kept_by_arrays_and_then_given_back() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        free = buffer.arena_bytes_free
        array = dispatch_to_self(buffer, np.full((2, 64), 7, np.float32)).numpy()
        assert buffer.arena_bytes_free < free
        buffer.dispatch(
            np.zeros((2, 64), np.float32), np.zeros((2, 1), int), np.ones((2, 1), np.float32), num_experts=1
        )
        assert (array == 7).all()
        del array
        assert buffer.arena_bytes_free == free

    run_buffers(1, body)


def test_input_is_given_back() -> None:
    import sys

    def body(buffer: crossdock.Buffer) -> None:
        x = np.zeros((2, 3), ml_dtypes.bfloat16)
        before = sys.getrefcount(x)
        dispatch_to_self(buffer, x)
        assert sys.getrefcount(x) == before

    run_buffers(1, body)


def test_empty() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        out = buffer.dispatch(
            np.zeros((0, 5), ml_dtypes.bfloat16), np.zeros((0, 2), int), np.zeros((0, 2), np.float32), num_experts=3
        )
        assert out.recv_x.numpy().shape == (0, 5)
        assert out.recv_topk_idx is not None and out.recv_topk_idx.numpy().shape == (0, 2)

    run_buffers(1, body)


def test_strides_of_empty_tensors_do_not_matter() -> None:
    torch = pytest.importorskip("torch")

    def body(buffer: crossdock.Buffer) -> None:
        x = torch.zeros(1, 1).expand(0, 5)
        assert buffer.dispatch(x, np.zeros((0, 1), int), np.zeros((0, 1), np.float32), num_experts=1).recv_x.shape == (
            0,
            5,
        )

    run_buffers(1, body)


def test_borrow() -> None:
    memory = np.arange(8, dtype=np.int32)
    tensor = crossdock.Tensor.borrow(memory.ctypes.data, crossdock.DataType.int32, [2, 2], strides=[4, 1], owner=memory)
    assert tensor.numpy().tolist() == [[0, 1], [4, 5]]
    assert tensor.first(1).numpy().tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3)), "x has the dtype float64, allowed are bool, uint8"),
        ([[1.0, 2.0]], "x is a list, allowed is"),
        (3, "x is a int, allowed is"),
        (np.zeros((2, 3), ">f4"), "x is big-endian"),
        (np.zeros((2, 3), [("a", "<f4"), ("b", "<i2")])["a"], "x has a stride of 18 bytes, not a whole element"),
        (np.zeros((2, 3), np.float32)[:, ::-1], "stride -1 of a tensor's dimension 1 is negative"),
    ],
    ids=["float64", "list", "int", "big-endian", "field", "reversed"],
)
def test_what_is_no_tensor(x: object, message: str) -> None:
    def body(buffer: crossdock.Buffer) -> None:
        with pytest.raises(crossdock.Error, match=message) as caught:
            dispatch_to_self(buffer, x)
        assert caught.value.code is crossdock.ErrorCode.INVALID_ARGUMENT

    run_buffers(1, body)
