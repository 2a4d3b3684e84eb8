"""fastserve sees what h11, nginx and HAProxy see, or fewer messages, but for what `known.txt` has a reason for."""

from __future__ import annotations

import pytest

from tests.differential.compare import (
    Class,
    Difference,
    Known,
    classify,
    find_differences,
    needs_reason,
    read_known,
)
from tests.differential.corpus import BEHIND, inputs
from tests.differential.front_ends import find_binary
from tests.differential.recipients import Message, taken_by_fastserve, taken_by_h11

A, B = Message(b"GET", b"/a", b""), Message(b"GET", b"/b", b"")
GET = b"GET /g HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def differences() -> list[Difference]:
    return [each for each in find_differences(inputs()) if needs_reason(each)]


def test_every_difference_has_a_reason(differences: list[Difference]) -> None:
    assert [each for each in differences if not any(known.explains(each) for known in read_known())] == []


def test_every_reason_is_needed(differences: list[Difference]) -> None:
    assert [known for known in read_known() if not any(known.explains(each) for each in differences)] == []


def test_what_nobody_should_refuse_is_taken_in_full() -> None:
    """Or the comparison would be about nothing: whoever refuses everything is never the looser one."""
    for name, raw in inputs().items():
        if name.startswith("valid / ") and "~" not in name:
            assert taken_by_fastserve(raw), name
            assert taken_by_h11(raw) or name == "valid / empty line first", name


def test_there_are_many_inputs_and_they_are_the_same_every_time() -> None:
    every = inputs()
    assert len([name for name in every if "~" not in name]) >= 1200
    assert len(set(every.values())) > 2000
    assert every == inputs()
    assert all(raw.endswith(BEHIND) for raw in every.values())


@pytest.mark.parametrize(
    ("ours", "theirs", "kind"),
    [
        ((A, B), (A, B), None),
        ((A, B), (A,), Class.LOOSER),
        ((A,), (), Class.LOOSER),
        ((A,), (A, B), Class.STRICTER),
        ((A, B), (B,), Class.OTHER),
        ((A._replace(content=b"x"),), (A,), Class.OTHER),
    ],
)
def test_differences_are_of_three_classes(
    ours: tuple[Message, ...], theirs: tuple[Message, ...], kind: Class | None
) -> None:
    assert classify(ours, theirs) is kind


def test_what_is_stricter_needs_a_reason_for_valid_inputs_alone() -> None:
    assert needs_reason(Difference("valid / get", "nginx", Class.STRICTER, (), (A,)))
    assert not needs_reason(Difference("valid / get ~1", "nginx", Class.STRICTER, (), (A,)))
    assert needs_reason(Difference("line / empty", "nginx", Class.LOOSER, (A,), ()))


def test_a_known_difference_explains_its_own_class_and_recipient() -> None:
    found = Difference("host / empty", "nginx", Class.LOOSER, (A,), ())
    assert Known("host / *", "nginx", Class.LOOSER, "").explains(found)
    assert Known("host / empty", "*", Class.LOOSER, "").explains(found)
    assert not Known("host / empty", "haproxy", Class.LOOSER, "").explains(found)
    assert not Known("host / empty", "nginx", Class.OTHER, "").explains(found)
    assert not Known("host / blank", "nginx", Class.LOOSER, "").explains(found)


def test_the_recipients_in_this_process_say_what_they_took() -> None:
    raw = (
        b"POST http://x/p?q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        + GET
        + b"GET"
    )
    expected = (Message(b"POST", b"/p?q", b"abc"), Message(b"GET", b"/g", b""))
    assert taken_by_fastserve(raw) == taken_by_h11(raw) == expected


def test_a_missing_front_end_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(AssertionError, match="install the package haproxy"):
        find_binary("haproxy")
