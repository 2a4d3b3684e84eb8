"""Every case on a fake transport: whole, at every cut, byte by byte and at random, always answered alike."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from fastserve.http11.encoder import CONTINUE
from tests.cases.case import BEHIND, Case
from tests.cases.judge import judge
from tests.cases.load import all_cases
from tests.cases.peers import CasePeer, run

CASES = [case for case in all_cases() if not case.needs_model]
EVERY_CUT_BYTES = 400  # longer ones are cut at random only: their length is what they are about
BYTE_BY_BYTE_BYTES = 3000
RANDOM_CUTS = 12


def cuts(case: Case) -> Iterator[list[bytes]]:
    """What the case sends, in reads. Pieces that wait for an answer stay apart."""
    for number, piece in enumerate(case.sent):
        before, after = list(case.sent[:number]), list(case.sent[number + 1 :])
        # BEHIND is the same everywhere: of its own cuts, a few are enough.
        size = len(piece) - (len(BEHIND) - 10 if piece.endswith(BEHIND) else 0)
        for at in range(1, size if size <= EVERY_CUT_BYTES else 1):
            yield [*before, piece[:at], piece[at:], *after]
        if len(piece) <= BYTE_BY_BYTE_BYTES:
            yield [*before, *(piece[at : at + 1] for at in range(len(piece))), *after]
        for seed in range(RANDOM_CUTS):
            places = random.Random(seed).choices(range(len(piece) + 1), k=1 + seed)
            yield [*before, *(piece[a:b] for a, b in itertools.pairwise([0, *sorted(places), len(piece)])), *after]


def answered(peer: CasePeer) -> tuple[bytes, list[bytes], bool]:
    """Without 100 (Continue), which depends on what has arrived when the header section is read."""
    return peer.transport.sent.replace(CONTINUE, b""), peer.seen, peer.is_closed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_answered_as_wanted_and_alike_however_the_bytes_arrive(case: Case) -> None:
    whole = run(case, *case.sent)
    assert judge(case, whole.transport.sent, is_closed=whole.is_closed) == []
    assert whole.seen == case.seen
    if not case.is_kept:
        alone = run(case, *case.pieces)
        assert answered(alone) == answered(whole), "what is sent behind the case changes its answers"
    for pieces in cuts(case) if case.is_cut else ():
        assert answered(run(case, *pieces)) == answered(whole), pieces
