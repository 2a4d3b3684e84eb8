"""Torch tensors as JSON, with the real torch: where the `models` extra is installed."""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

import pytest

from fastserve.codec.json_text import encode_json
from fastserve.errors import ResultError

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def torch() -> Any:
    if importlib.util.find_spec("torch") is None and not os.environ.get("REQUIRE_MODELS"):
        pytest.skip("torch is absent")
    return importlib.import_module("torch")


def encoded(value: Any) -> Any:
    return json.loads(encode_json(value))


def test_tensors_of_every_number_type_become_numbers(torch: Any) -> None:
    for name in ("float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64"):
        tensor = torch.tensor([[1, 2], [3, 4]], dtype=getattr(torch, name))
        assert encoded({"t": tensor}) == {"t": [[1, 2], [3, 4]]}, name
    assert encoded(torch.tensor([True, False])) == [True, False]


def test_tensors_of_every_shape_keep_it(torch: Any) -> None:
    assert encoded(torch.tensor(1.5)) == 1.5
    assert encoded(torch.empty(0)) == []
    assert encoded(torch.empty(2, 0)) == [[], []]
    assert encoded(torch.arange(6).reshape(2, 3).T) == [[0, 3], [1, 4], [2, 5]]
    assert encoded(torch.arange(10)[::3]) == [0, 3, 6, 9]
    assert encoded(torch.tensor([1.0]).expand(3)) == [1.0, 1.0, 1.0]


def test_tensors_with_more_to_them_are_read_through(torch: Any) -> None:
    assert encoded(torch.nn.Parameter(torch.tensor([1.0]))) == [1.0]
    assert encoded(torch.tensor([0.0, 2.0]).to_sparse()) == [0.0, 2.0]
    with torch.inference_mode():
        assert encoded(torch.tensor([1.0])) == [1.0]
    assert encoded(torch.tensor([1 + 2j]).conj().imag) == [-2.0]


def test_a_tensor_with_no_json_form_is_refused(torch: Any) -> None:
    with pytest.raises(ResultError):
        encode_json(torch.tensor([1 + 2j]))
