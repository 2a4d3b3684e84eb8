"""What atheris (libFuzzer) calls with bytes of its own, in a process of its own: bytes to a scenario, judged.

fastserve.http11 is imported through atheris, which counts the branches that are taken. Started by `guided.py`.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from tests.fuzz.scenario import Ending, Scenario

# Before the stream itself: cuts, manners, tempo, and one byte for the rest.
CUTS: Final = 4
MANNERS: Final = 2
TEMPO: Final = 2
HEAD: Final = CUTS + MANNERS + TEMPO + 1
MAX_BYTES: Final = 4096


def decode(octets: bytes) -> Scenario:
    """Any bytes are a scenario; those that lack are zeros."""
    head, raw = octets[:HEAD].ljust(HEAD, b"\0"), octets[HEAD:]
    cuts = sorted(share * len(raw) // 256 for share in head[:CUTS] if share)
    rest = head[-1]
    return Scenario(
        raw,
        tuple(cuts),
        manners=head[CUTS : CUTS + MANNERS],
        tempo=head[CUTS + MANNERS : -1],
        ending=Ending(1 + rest % len(Ending)),
        is_tight=rest >= 128,
    )


def encode(scenario: Scenario) -> bytes:
    """Bytes for about the same scenario: four cuts, to within 1/256 of the stream."""
    cuts = bytes((256 * cut // (len(scenario.raw) or 1)) % 256 for cut in scenario.cuts[:CUTS])
    rest = scenario.ending - 1 + (130 if scenario.is_tight else 0)
    manners, tempo = scenario.manners[:MANNERS], scenario.tempo[:TEMPO]
    head = cuts.ljust(CUTS, b"\0") + manners.ljust(MANNERS, b"\0") + tempo.ljust(TEMPO, b"\0")
    return head + bytes([rest]) + scenario.raw


def main() -> None:
    """argv is libFuzzer's. Ends with its status, 77 for a failure; the input is then among the finds."""
    import atheris

    with atheris.instrument_imports(include=["fastserve.http11"]):
        from tests.fuzz import corpus
        from tests.fuzz.campaign import shrink_find
        from tests.fuzz.judge import judge
        from tests.fuzz.play import World
    world: Any = World()

    def judge_bytes(octets: bytes) -> None:
        scenario = decode(octets)
        try:
            judge(world, scenario)
        except Exception:
            corpus.add(corpus.FINDS, shrink_find(scenario))
            raise

    atheris.Setup(sys.argv, judge_bytes)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
