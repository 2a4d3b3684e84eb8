"""`python -m tests.differential` prints where fastserve differs from h11, nginx and HAProxy, and the reason for each.

With --stricter also what it alone refuses. Exits with 1 if a difference has no reason.
"""

from __future__ import annotations

import sys
from collections import Counter

from tests.differential.compare import Difference, find_differences, needs_reason, read_known
from tests.differential.corpus import inputs
from tests.differential.recipients import Taken

_WIDTH = 60


def main() -> None:
    asked = inputs()
    differences = find_differences(asked)
    known = read_known()
    unexplained = 0
    for each in differences:
        reason = next((line.reason for line in known if line.explains(each)), "")
        is_wrong = not reason and needs_reason(each)
        unexplained += is_wrong
        if reason or is_wrong or "--stricter" in sys.argv:
            print(f"{each.kind.value:8} {each.recipient:7} {each.name}: {reason or ('WRONG' if is_wrong else '')}")
            print(_describe(each))
    print(f"\n{len(asked)} inputs; how often fastserve differs:")
    for (recipient, kind), count in sorted(Counter((d.recipient, d.kind.value) for d in differences).items()):
        print(f"  {recipient:8} {kind:9} {count:4}")
    sys.exit(f"{unexplained} without a reason" if unexplained else 0)


def _describe(difference: Difference) -> str:
    return f"    fastserve {_short(difference.ours)}\n    {difference.recipient:9} {_short(difference.theirs)}"


def _short(taken: Taken) -> str:
    parts = [f"{m.method.decode()} {m.target.decode('latin-1')[:_WIDTH]} {m.content[:_WIDTH]!r}" for m in taken]
    return "; ".join(parts) or "nothing"


if __name__ == "__main__":
    main()
