"""A real torch in the model: what it keeps for each thread, what it raises without memory, in what mode predict runs.

Where the `models` extra is installed. What only a GPU has is looked at where there is one.
"""

from __future__ import annotations

import importlib.util
import os
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest

from fastserve.model import cpu_threads
from fastserve.model.cpu_threads import VARIABLES, count_cores
from fastserve.model.memory import free_memory, is_out_of_memory
from fastserve.model.runtime import Runtime
from tests.model.test_runtime import ask, methods

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def torch() -> Any:
    if importlib.util.find_spec("torch") is None and not os.environ.get("REQUIRE_MODELS"):
        pytest.skip("torch is absent")
    return importlib.import_module("torch")


# --- threads ---


def test_what_load_sets_for_its_thread_is_set_in_every_predict(serve: Callable[..., Any], torch: Any) -> None:
    class Model:
        def load(self) -> None:
            torch.set_grad_enabled(False)
            torch.set_flush_denormal(True)
            if torch.cuda.is_available():
                self.stream = torch.cuda.Stream()
                torch.cuda.set_stream(self.stream)

        def preprocess(self, payload: Any) -> Any:
            return payload, torch.is_grad_enabled()

        def predict(self, seen: Any) -> Any:
            denormal = torch.tensor([1e-40]) * 0.5
            has_stream = not torch.cuda.is_available() or torch.cuda.current_stream() == self.stream
            return seen[1], torch.is_grad_enabled(), denormal.item(), has_stream

    async def scenario(runtime: Runtime) -> None:
        for _ in range(20):
            assert await ask(runtime, "x") == (True, False, 0.0, True)

    serve(Model, scenario)
    assert torch.is_grad_enabled()  # here, on another thread


@pytest.fixture
def threads(torch: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """torch's number of threads is afterwards as it was."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpu_threads, "cpu_quota", lambda file: float("inf"))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("slots", [2, 64])
def test_each_of_several_predicts_computes_with_its_share_of_the_cores(
    serve: Callable[..., Any], torch: Any, slots: int
) -> None:
    torch.set_num_threads(count_cores())

    def predict(payload: Any) -> Any:
        torch.ones(10, 10) @ torch.ones(10, 10)
        return torch.get_num_threads()

    async def scenario(runtime: Runtime) -> None:
        for _ in range(2 * slots):
            assert await ask(runtime, "x") == max(1, count_cores() // slots)

    serve(methods(predict=predict), scenario, slots=slots)


# --- inference mode ---


def test_predict_is_really_in_inference_mode(serve: Callable[..., Any], torch: Any) -> None:
    class Model:
        def load(self) -> None:
            self.weight = torch.ones(3, requires_grad=True)

        def predict(self, payload: Any) -> Any:
            result = self.weight * 2
            return result.is_inference(), result.requires_grad, self.weight.is_inference(), result.tolist()

    async def scenario(runtime: Runtime) -> Any:
        return await ask(runtime, "x")

    assert serve(Model, scenario, inference_mode=True) == (True, False, False, [2.0] * 3)
    assert serve(Model, scenario) == (False, True, False, [2.0] * 3)


def test_so_is_a_generator_at_each_of_its_steps(serve: Callable[..., Any], torch: Any) -> None:
    def predict(payload: Any) -> Generator[str, None, None]:
        for _ in range(3):
            yield f"{torch.is_inference_mode_enabled()} "

    async def scenario(runtime: Runtime) -> Any:
        return await ask(runtime, "x")

    for method in (predict, lambda payload: predict(payload)):
        assert serve(methods(predict=method), scenario, inference_mode=True) == "True True True "
    assert not torch.is_inference_mode_enabled()


# --- out of memory ---


def test_the_classes_that_torch_raises_are_known(torch: Any) -> None:
    for kind in (torch.cuda.OutOfMemoryError, torch.OutOfMemoryError):
        assert is_out_of_memory(kind("whatever it says"))
    assert not is_out_of_memory(RuntimeError("whatever it says"))


def test_what_it_says_of_the_host_s_memory_is_another_matter(torch: Any) -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert not is_out_of_memory(raised.value)


def test_the_tensors_of_a_predict_that_ran_out_of_memory_are_let_go(serve: Callable[..., Any], torch: Any) -> None:
    held: list[weakref.ref[Any]] = []

    def predict(payload: Any) -> Any:
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    async def scenario(runtime: Runtime) -> None:
        with pytest.raises(torch.cuda.OutOfMemoryError) as raised:
            await ask(runtime, "x")
        assert held[0]() is None
        assert raised.tb is not None
        assert runtime.condition.shortage.total == 1

    serve(methods(predict=predict), scenario)


def test_freeing_does_no_harm_where_there_is_no_gpu(torch: Any, caplog: pytest.LogCaptureFixture) -> None:
    free_memory(RuntimeError("CUDA out of memory"))
    assert not caplog.records
