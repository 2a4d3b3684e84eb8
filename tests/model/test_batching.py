"""What config.yaml says of batching: taken with its defaults, or refused with file, line and the nearest name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastserve.errors import SetupError
from fastserve.model.batching import Batching, read_batching
from fastserve.model.directory import read_directory


def read(path: Path, batching: str) -> Batching | None:
    (path / "config.yaml").write_text(f"model_name: x\nruntime:\n  predict_concurrency: 1\n{batching}\n")
    return read_batching(read_directory(path))


@pytest.mark.parametrize("batching", ["", "  batching:", "  batching: null"])
def test_without_a_word_there_are_no_batches(tmp_path: Path, batching: str) -> None:
    assert read(tmp_path, batching) is None


@pytest.mark.parametrize(
    "batching, expected",
    [
        ("{max_batch_size: 32}", Batching(32, 0.0, isolates=True)),
        ("{max_batch_size: 1, batch_wait_ms: null, on_batch_error: null}", Batching(1, 0.0, isolates=True)),
        ("{max_batch_size: 1073741824, batch_wait_ms: 60000}", Batching(1 << 30, 60.0, isolates=True)),
        ("{max_batch_size: '8', batch_wait_ms: 0.5, on_batch_error: fail}", Batching(8, 0.0005, isolates=False)),
        ("{max_batch_size: 8, batch_wait_ms: 0, on_batch_error: Isolate}", Batching(8, 0.0, isolates=True)),
    ],
)
def test_what_is_said_is_taken(tmp_path: Path, batching: str, expected: Batching) -> None:
    assert read(tmp_path, f"  batching: {batching}") == expected


@pytest.mark.parametrize(
    "batching, words",
    [
        ("8", "takes a mapping such as {max_batch_size: 32, batch_wait_ms: 5}, not 8"),
        ("[8]", "takes a mapping such as"),
        ("{}", "needs max_batch_size: "),
        ("{batch_wait_ms: 5}", "needs max_batch_size: "),
        ("{max_batch_size: null}", "needs max_batch_size: "),
        ("{max_batch_size: 0}", ".max_batch_size takes a whole number from 1 to 1073741824, not 0"),
        ("{max_batch_size: 1073741825}", ".max_batch_size takes a whole number from 1 to"),
        ("{max_batch_size: true}", ".max_batch_size takes a whole number from 1 to 1073741824, not True"),
        ("{max_batch_size: 8.0}", ".max_batch_size takes a whole number"),
        ("{max_batch_size: 8, batch_wait_ms: -1}", ".batch_wait_ms takes a number of milliseconds from 0 to 60000"),
        ("{max_batch_size: 8, batch_wait_ms: 60000.1}", ".batch_wait_ms takes a number of milliseconds"),
        ("{max_batch_size: 8, batch_wait_ms: .nan}", ".batch_wait_ms takes a number of milliseconds"),
        ("{max_batch_size: 8, batch_wait_ms: '5'}", ".batch_wait_ms takes a number of milliseconds"),
        ("{max_batch_size: 8, batch_wait_ms: true}", ".batch_wait_ms takes a number of milliseconds"),
        ("{max_batch_size: 8, on_batch_error: isolat}", "takes one of isolate, fail (did you mean isolate?), not"),
        ("{max_batch_sise: 8}", ".max_batch_sise: no such setting (did you mean max_batch_size?)"),
        ("{max_batch_size: 8, batch_timeout: null}", ".batch_timeout: no such setting"),
        ("{max_batch_size: 8, 5: 5}", ".5: no such setting"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(tmp_path: Path, batching: str, words: str) -> None:
    with pytest.raises(SetupError, match=re.escape(words)) as refused:
        read(tmp_path, f"  batching: {batching}")
    assert str(refused.value).startswith(f"{tmp_path / 'config.yaml'}:4: runtime.batching")


def test_the_line_is_that_of_the_key(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"config\.yaml:6: runtime\.batching\.batch_wait_ms takes"):
        read(tmp_path, "  batching:\n    max_batch_size: 8\n    batch_wait_ms: soon")
