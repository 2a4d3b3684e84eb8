"""What is wrong with the answers to a case: h11 reads them, this compares them with what is wanted.

No bytes are sent here. Called by both runners, so that a fake transport and a socket are judged alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from fastserve.http11.encoder import CONTINUE
from tests.cases.case import Case, Wanted
from tests.support.answers import Answer, read_answers

SPARE = 4  # answers that nobody wanted are read too, in order to be shown


def judge(case: Case, received: bytes, *, is_closed: bool) -> list[str]:
    """Everything that is wrong, in words; [] if the case passes.

    received: all that came back to `case.sent`. is_closed: our side has been shut down by the server.
    """
    try:
        answers = read(case, received)
    except Exception as error:  # noqa: BLE001 - whatever h11 finds, it is wrong
        return [f"h11 cannot read the answers: {error}: {received!r}"]
    wanted = case.all_wanted
    if len(answers) != len(wanted):
        return [f"{len(answers)} answers instead of {len(wanted)}: {[a.status for a in answers]}"]
    problems = [p for answer, want in zip(answers, wanted, strict=True) for p in _compare(answer, want, case)]
    if received.count(CONTINUE) != case.interim:
        problems.append(f"{received.count(CONTINUE)} interim responses instead of {case.interim}")
    if not is_closed:
        problems.append("not closed")
    return problems + list(_check_closing(case, answers))


def read(case: Case, received: bytes) -> list[Answer]:
    """What came back, one answer for each wanted and perhaps more. Raises what h11 does if it is not HTTP."""
    methods = [b"HEAD" if want.is_head else b"POST" for want in case.all_wanted]
    return read_answers(received, methods + [b"POST"] * SPARE, is_closed=True)


def _compare(answer: Answer, want: Wanted, case: Case) -> Iterator[str]:
    if answer.status not in want.statuses:
        yield f"{answer.status} instead of {sorted(want.statuses)}: {answer.content[:200]!r}"
        return
    yield from _check_fields(answer, case)
    if not answer.is_complete:
        yield "an incomplete answer"
    for name, field in want.fields:
        if answer.fields.get(name, "") != field:
            yield f"{name}: {answer.fields.get(name)!r} instead of {field!r}"
    if want.content is not None and answer.content != want.content:
        yield f"{answer.content!r} instead of {want.content!r}"
    if want.is_head and answer.content:
        yield "content in answer to HEAD"
    if want.seen is not None:
        told = json.loads(answer.content)
        content = want.seen.decode("latin-1")
        for key, value in (("seen", content), ("url", want.url), ("host", want.host), ("tag", want.tag)):
            if value is not None and told[key] != value:
                yield f"the model was given {key} {told[key]!r} instead of {value!r}"


def _check_fields(answer: Answer, case: Case) -> Iterator[str]:
    """What every answer must have (RFC 9110 section 6.6.1, RFC 9112 section 6)."""
    framing = [name for name in ("content-length", "transfer-encoding") if name in answer.fields]
    if answer.status in (204, 304):
        if framing or answer.content:
            yield f"{framing} or content in a {answer.status}"
    elif len(framing) != 1 and not (not framing and b"HTTP/1.0" in case.raw):
        yield f"{framing} is not one way to frame"
    if "date" not in answer.fields:
        yield "no Date"
    if answer.content and "content-type" not in answer.fields:
        yield "content without Content-Type"


def _check_closing(case: Case, answers: list[Answer]) -> Iterator[str]:
    """The last answer says that it is, and no other does; a refusal says why."""
    says_close = [answer.fields.get("connection") == "close" for answer in answers]
    if any(says_close[:-1]):
        yield "Connection: close before the last answer"
    if answers and not says_close[-1] and not case.ends and not case.waits:
        yield "the last answer does not say Connection: close"
    if case.is_refusal:
        error = json.loads(answers[-1].content or b"{}").get("error") if answers else None
        if not error or not isinstance(error, str):
            yield f"a refusal that does not say why: {error!r}"
        if answers and not says_close[-1]:
            yield "a refusal without Connection: close"
