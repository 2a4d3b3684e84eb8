"""GPUs as a pynvml tells of them that is made up: names, memory, utilization, and all that it may refuse."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve.gpus import GIB, Gpu, Gpus
from tests.support.process import serving, write_model


class FakeNVML:
    """As much of pynvml as is asked for. refuses: the functions that raise, as for want of support."""

    def __init__(self, *names: Any, refuses: tuple[str, ...] = ()) -> None:
        self._names = names
        self._refuses = refuses

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        answer = getattr(self, name.removeprefix("nvml"))

        def ask(*arguments: Any) -> Any:
            if name in self._refuses:
                raise RuntimeError("Not Supported")
            return answer(*arguments)

        return ask

    def Init(self) -> None: ...  # noqa: N802 - pynvml's names

    def DeviceGetCount(self) -> int:  # noqa: N802
        return len(self._names)

    def DeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"handle {index}"

    def DeviceGetName(self, handle: str) -> Any:  # noqa: N802
        return self._names[int(handle[-1])]

    def DeviceGetUUID(self, handle: str) -> Any:  # noqa: N802
        return f"GPU-{handle[-1]}abc-def"

    def DeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(used=3 * GIB // 2, total=80 * GIB)

    def DeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=25, memory=3)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gpus]:
    """opened(nvml, visible): Gpus that have been opened, with this pynvml and CUDA_VISIBLE_DEVICES."""

    def opened(nvml: Any, visible: str | None = None) -> Gpus:
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        gpus = Gpus()
        assert gpus.are_readable
        gpus.open()
        return gpus

    return opened


H200 = Gpu(0, "NVIDIA H200", 3 * GIB // 2, 80 * GIB, 0.25)


@pytest.mark.parametrize("name", ["NVIDIA H200", b"NVIDIA H200"])
def test_a_gpu_is_read_as_plain_values_and_shown_in_a_few_words(opened: Callable[..., Gpus], name: Any) -> None:
    gpus = opened(FakeNVML(name))
    assert gpus.at_load == gpus.read() == [H200]
    assert str(H200) == "GPU 0: NVIDIA H200, 1.5 of 80.0 GiB in use"


@pytest.mark.parametrize(
    "refused, expected",
    [
        ("nvmlDeviceGetName", H200._replace(name="unknown")),
        ("nvmlDeviceGetMemoryInfo", H200._replace(memory_used_bytes=None, memory_total_bytes=None)),
        ("nvmlDeviceGetUtilizationRates", H200._replace(utilization=None)),
    ],
)
def test_a_value_that_is_refused_is_none_and_the_others_are_there(
    opened: Callable[..., Gpus], refused: str, expected: Gpu
) -> None:
    assert opened(FakeNVML("NVIDIA H200", refuses=(refused,))).read() == [expected]


def test_without_its_memory_a_gpu_is_shown_by_its_name() -> None:
    assert str(Gpu(1, "Orin", None, None, None)) == "GPU 1: Orin"


@pytest.mark.parametrize("refused", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_without_a_driver_or_a_gpu_there_are_none(opened: Callable[..., Gpus], refused: str) -> None:
    gpus = opened(FakeNVML("NVIDIA H200", refuses=(refused,)))
    assert gpus.at_load == gpus.read() == []


def test_a_pynvml_that_cannot_be_imported_means_none(opened: Callable[..., Gpus]) -> None:
    assert opened(None).read() == []
    assert opened(SimpleNamespace()).read() == []


@pytest.mark.parametrize(
    "visible, indices",
    [
        (None, [0, 1, 2]),
        ("0,1,2", [0, 1, 2]),
        ("2, 0", [2, 0]),
        ("1", [1]),
        ("GPU-2a", [2]),
        ("GPU-1abc-def,0", [1, 0]),
        ("", []),
        ("-1", []),
        ("0,-1,2", [0]),  # as CUDA reads it: up to the first that is none
        ("7", []),
        ("GPU-9", []),
    ],
)
def test_only_those_are_told_of_that_the_process_may_use(
    opened: Callable[..., Gpus], visible: str | None, indices: list[int]
) -> None:
    gpus = opened(FakeNVML("a", "b", "c"), visible)
    assert [gpu.number for gpu in gpus.read()] == indices


def test_without_pynvml_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not Gpus().are_readable


PYNVML = """
from types import SimpleNamespace
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(handle): return "NVIDIA L4"
def nvmlDeviceGetMemoryInfo(handle): return SimpleNamespace(used=1 << 30, total=24 << 30)
def nvmlDeviceGetUtilizationRates(handle): raise OSError
"""


def test_the_start_up_line_names_them(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text(PYNVML)
    directory = write_model(tmp_path / "m", "class Model:\n    def predict(self, x): return x\n")
    env = {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1"}
    with serving(directory, env=env) as server:
        server.wait_for_log(r"ready; the model loaded in [\d.]+ s; GPU 1: NVIDIA L4, 1.0 of 24.0 GiB in use")
        assert server.predict(1) == 1
