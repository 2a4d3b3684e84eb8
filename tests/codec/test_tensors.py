"""Torch tensors as content, with the real torch: where the `models` extra is installed."""

from __future__ import annotations

import gc
import importlib.util
import io
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack_numpy
import numpy as np
import pytest

from fastserve.codec import tensors
from fastserve.codec.buffers import as_content
from fastserve.codec.msgpack_encode import PIECE_BYTES, encode_msgpack
from fastserve.errors import ResultError

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def torch() -> Any:
    if importlib.util.find_spec("torch") is None and not os.environ.get("REQUIRE_MODELS"):
        pytest.skip("torch is absent")
    return importlib.import_module("torch")


def address(content: Any) -> int:
    """Where the bytes lie."""
    return int(np.frombuffer(content, np.uint8).ctypes.data)


def test_this_torch_tells_a_shared_tensor_from_one_that_is_not(torch: Any) -> None:
    assert tensors._counts_of_alone() is not None


def in_inference(torch: Any, make: Callable[[], Any]) -> Any:
    """Where views do not hold what they are views of, for the gradient's sake."""
    with torch.inference_mode():
        return make()


FRESH: list[Callable[[Any], Any]] = [
    lambda torch: torch.ones(100),
    lambda torch: in_inference(torch, lambda: torch.ones(10, 10).reshape(100)),
    lambda torch: in_inference(torch, lambda: torch.ones(100)[50:]),
    lambda torch: torch.nn.functional.relu(torch.ones(100)),
    lambda torch: torch.nn.Linear(3, 50)(torch.ones(2, 3)),
    lambda torch: torch.ones(10, dtype=torch.int64),
]


@pytest.mark.parametrize("make", FRESH)
def test_a_tensor_that_nobody_else_holds_goes_out_without_a_copy(torch: Any, make: Callable[[Any], Any]) -> None:
    box = [make(torch)]
    place, expected = box[0].data_ptr(), bytes(box[0].untyped_storage())[-box[0].nbytes :]
    content = as_content(box)
    assert isinstance(content, memoryview)
    assert address(content) == place
    box.clear()
    gc.collect()
    assert content == expected  # it keeps its memory alive


HOLDERS: list[Callable[[Any, Any], Any]] = [
    lambda torch, tensor: tensor,
    lambda torch, tensor: tensor[:1],
    lambda torch, tensor: tensor.detach(),
    lambda torch, tensor: tensor.data,
    lambda torch, tensor: tensor.numpy(),
    lambda torch, tensor: memoryview(tensor.numpy()),
    lambda torch, tensor: tensor.untyped_storage(),
    lambda torch, tensor: tensor.view(torch.uint8),
    lambda torch, tensor: torch.utils.dlpack.to_dlpack(tensor),
    lambda torch, tensor: weakref.ref(tensor),
    lambda torch, tensor: tensor.clone().requires_grad_() * tensor,  # the graph keeps it for the gradient
    lambda torch, tensor: np.asarray(tensor),
]


@pytest.mark.parametrize("hold", HOLDERS)
@pytest.mark.parametrize("cut", [lambda t: t, lambda t: t[10:], lambda t: t.reshape(10, 10)])
def test_whatever_holds_a_tensor_has_it_copied(
    torch: Any, hold: Callable[[Any, Any], Any], cut: Callable[[Any], Any]
) -> None:
    whole = torch.ones(100)
    box = [cut(whole)]
    holder = hold(torch, whole)
    place = box[0].data_ptr()
    del whole
    content = as_content(box)
    assert address(content) != place
    assert content == np.ones(len(content or b"") // 4, np.float32).tobytes()
    del holder


def test_a_tensor_over_memory_of_others_is_copied(torch: Any, tmp_path: Path) -> None:
    array: Any = np.ones(100, np.float32)
    kept = bytearray(array.tobytes())
    (tmp_path / "file").write_bytes(kept)
    (tmp_path / "saved").write_bytes(saved(torch, torch.ones(100)))
    tensor = torch.ones(100)
    for box in (
        [torch.from_numpy(array)],
        [torch.as_tensor(array)],
        [torch.frombuffer(kept, dtype=torch.float32)],
        [torch.from_dlpack(tensor)],
        [torch.from_file(str(tmp_path / "file"), shared=True, size=100)],
        [torch.load(tmp_path / "saved", mmap=True)],
        [torch.ones(100).share_memory_()],
    ):
        place = box[0].data_ptr()
        content = as_content(box)
        assert address(content) != place
        assert content == array.tobytes()


def saved(torch: Any, tensor: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()


def test_an_answer_is_not_changed_by_the_next_predict(torch: Any) -> None:
    kept = torch.zeros(PIECE_BYTES)
    shows: list[Callable[[], Any]] = [
        lambda: kept,
        lambda: kept[:100],
        lambda: kept.numpy(),
        lambda: kept.detach().numpy()[10:],
        lambda: torch.from_numpy(kept.numpy()),
    ]
    contents = [as_content([show()]) for show in shows]
    packed = [encode_msgpack([show()]) for show in shows]
    before = [bytes(content or b"") for content in contents], [b"".join(pieces) for pieces in packed]
    kept.fill_(1)
    assert before == ([bytes(content or b"") for content in contents], [b"".join(pieces) for pieces in packed])
    assert before[0][0] == bytes(4 * PIECE_BYTES)


def test_what_must_be_converted_is_converted_once(torch: Any) -> None:
    half = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    assert as_content([half]) == np.array([1.5, -2.0], np.float32).tobytes()
    assert isinstance(as_content([half]), memoryview)
    assert as_content([torch.tensor([0.0, 2.0]).to_sparse()]) == np.array([0, 2], np.float32).tobytes()
    assert as_content([torch.tensor([1 + 2j]).conj()]) == np.array([1 - 2j], np.complex64).tobytes()
    assert as_content([torch.arange(6, dtype=torch.uint8).reshape(2, 3).T]) == bytes([0, 3, 1, 4, 2, 5])
    assert as_content([torch.zeros(0)]) == b""
    assert as_content([torch.nn.Parameter(torch.tensor([1.0]))]) == np.array([1], np.float32).tobytes()


def test_a_tensor_becomes_the_array_that_it_is(torch: Any) -> None:
    for tensor in (
        torch.arange(6).reshape(2, 3),
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(1.5),
        torch.ones(PIECE_BYTES, requires_grad=True),
    ):
        array = tensor.detach().numpy()
        for value, expected in ((tensor, array), ({"a": [1, tensor]}, {"a": [1, array]})):
            assert b"".join(encode_msgpack([value])) == msgpack_numpy.packb(expected)


def test_a_large_tensor_in_a_result_is_not_copied(torch: Any) -> None:
    box = [{"a": [torch.ones(PIECE_BYTES)]}]
    place = box[0]["a"][0].data_ptr()
    pieces = encode_msgpack(box)
    assert place in [address(piece) for piece in pieces]


@pytest.mark.parametrize("make", [lambda torch: torch.ones(2, device="meta"), lambda torch: nested(torch)])
def test_a_tensor_without_numbers_is_refused(torch: Any, make: Callable[[Any], Any]) -> None:
    with pytest.raises(ResultError):
        as_content([make(torch)])
    with pytest.raises(ResultError):
        encode_msgpack([{"a": make(torch)}])


def nested(torch: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])


def test_without_torch_s_own_counts_all_is_copied(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_storage_Use_Count")
    tensors._counts_of_alone.cache_clear()
    try:
        assert type(as_content([torch.ones(100)])) is bytes
    finally:
        monkeypatch.undo()
        tensors._counts_of_alone.cache_clear()


def test_counts_that_tell_nothing_apart_have_all_copied(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_counts", lambda tensor: ())
    tensors._counts_of_alone.cache_clear()
    try:
        assert type(as_content([torch.ones(100)])) is bytes
    finally:
        monkeypatch.undo()
        tensors._counts_of_alone.cache_clear()
