"""When a model is told of its environment, polled by hand: no clock but the file's own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import SetupError
from fastserve.model.contract import Method, read_contract
from fastserve.model.environment import POLL_S, EnvironmentWatch, read_environment
from tests.support.hooks import with_hooks


class Model:
    """told: each environment, and the thread it came on. error: raised by the next call."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, str]] = []
        self.error: BaseException | None = None

    def setup_environment(self, environment: Any) -> None:
        self.told.append((environment, threading.current_thread().name))
        error, self.error = self.error, None
        if error is not None:
            raise error

    def predict(self, model_input: Any) -> None: ...


class AsyncModel(Model):
    async def setup_environment(self, environment: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        Model.setup_environment(self, environment)


class Directory:
    """The platform's mount, whose file is as old as the number of times it was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "environment"
        self._age = 0

    def write(self, text: str | bytes) -> None:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        self._age += 1
        os.utime(self.file, (self._age, self._age))


def method_of(model: Model) -> Method:
    method = read_contract(model).setup_environment
    assert method is not None
    return method


def watch(tmp_path: Path, model: Model, play: Callable[[Directory, EnvironmentWatch], Awaitable[None]]) -> list[Any]:
    """Play with a file and the watch of it. Returns what the model was told."""
    with_hooks(lambda hooks: play(Directory(tmp_path), EnvironmentWatch(tmp_path, method_of(model), hooks)))
    return [environment for environment, _ in model.told]


@pytest.mark.parametrize("model", [Model, AsyncModel])
def test_each_change_is_told_once_where_the_method_belongs(tmp_path: Path, model: type[Model]) -> None:
    async def play(directory: Directory, watch: EnvironmentWatch) -> None:
        for text in (None, '{"name": "a"}', None, '{"name": "a"}', '{"name": "b"}', "null", None):
            if text is not None:
                directory.write(text)
            await watch.poll()

    it = model()
    assert watch(tmp_path, it, play) == [{"name": "a"}, {"name": "b"}, None]
    assert {thread.startswith("fastserve-hook") for _, thread in it.told} == {model is Model}


def test_what_was_told_before_load_is_not_told_again(tmp_path: Path) -> None:
    async def play(directory: Directory, watch: EnvironmentWatch) -> None:
        directory.write('{"name": "a"}')
        assert watch.first() == ({"name": "a"},)
        await watch.poll()
        directory.write('{"name": "a" }')
        await watch.poll()

    assert watch(tmp_path, Model(), play) == []


@pytest.mark.parametrize(
    ("text", "first"), [(None, None), ("", None), (" \n", None), ("null", (None,)), ("[]", ([],)), ("0", (0,))]
)
def test_before_load_only_a_file_that_says_something_is_told(
    tmp_path: Path, text: str | None, first: tuple[Any] | None
) -> None:
    async def play(directory: Directory, watch: EnvironmentWatch) -> None:
        if text is not None:
            directory.write(text)
        assert watch.first() == first
        assert read_environment(tmp_path) == (first[0] if first else None)

    watch(tmp_path, Model(), play)


def test_a_null_that_nobody_was_told_before_is_no_change(tmp_path: Path) -> None:
    """Truss: what has not been told counts as null."""

    async def play(directory: Directory, watch: EnvironmentWatch) -> None:
        directory.write("null")
        await watch.poll()

    assert watch(tmp_path, Model(), play) == []


@pytest.mark.parametrize("model", [Model, AsyncModel])
@pytest.mark.parametrize(
    "error", [ValueError("no such place"), SystemExit("no such place"), StopIteration("no such place")]
)
def test_what_it_raises_is_logged_and_the_next_change_is_told_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: type[Model], error: BaseException
) -> None:
    it = model()
    it.error = error

    async def play(directory: Directory, watch: EnvironmentWatch) -> None:
        directory.write("1")
        await watch.poll()
        await watch.poll()  # not again: the file has not changed
        directory.write("1")
        await watch.poll()  # it has, and this value was never told to the end
        directory.write("2")
        await watch.poll()

    assert watch(tmp_path, it, play) == [1, 1, 2]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].getMessage().startswith("Exception while setting up environment: ")
    assert "no such" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"), [("{", "not JSON: "), (b"\xff", "not JSON: "), (None, "cannot be read: Is a directory")]
)
def test_a_file_that_cannot_be_read_is_told_once_and_read_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | bytes | None, words: str
) -> None:
    async def play(directory: Directory, watch: EnvironmentWatch) -> None:
        if text is None:
            directory.file.mkdir()
        else:
            directory.write(text)
        with pytest.raises(SetupError, match=words):
            watch.first()
        with pytest.raises(SetupError, match=words):
            read_environment(tmp_path)
        await watch.poll()
        await watch.poll()
        assert caplog.text.count(words) == 2  # the message, and the exception with it
        if text is None:
            directory.file.rmdir()
        directory.write("3")
        await watch.poll()

    assert watch(tmp_path, Model(), play) == [3]


def test_a_file_that_is_emptied_is_no_change(tmp_path: Path) -> None:
    async def play(directory: Directory, watch: EnvironmentWatch) -> None:
        for text in ("1", "", "1", "2"):
            directory.write(text)
            await watch.poll()

    assert watch(tmp_path, Model(), play) == [1, 2]


def test_it_looks_every_half_minute_until_it_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep
    assert POLL_S == 30.0

    async def note(delay: float) -> None:
        pauses.append(delay)
        directory.write(json.dumps(len(pauses)))
        if len(pauses) == 3:
            raise asyncio.CancelledError
        await sleep(0)

    async def play(_: Directory, watch: EnvironmentWatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", note)
            with pytest.raises(asyncio.CancelledError):
                await watch.run()

    directory = Directory(tmp_path)
    assert watch(tmp_path, Model(), play) == [1, 2]
    assert pauses == [POLL_S] * 3
