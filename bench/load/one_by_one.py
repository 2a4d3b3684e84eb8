"""One exchange after the other on one connection: streams, uploads and downloads, each checked to the last byte.

Only the exchanges are timed, not the checks between them. Leaves what they cost the server to bench/rounds.py.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import ClassVar

from bench.load.exchanges import connect, exchange, request_bytes
from bench.load.quantiles import Figures, in_us
from bench.questions import Question
from bench.server import ContestantError, Server


@dataclass(frozen=True)
class OneByOne:
    """units: of what an exchange has, for the rate (10,000 chunks, or bytes of content)."""

    units: int
    is_all_requests: ClassVar[bool] = True
    checks_answers: ClassVar[bool] = True

    def drive(self, server: Server, question: Question, seconds: int) -> Figures:
        """Exchanges until `seconds` have gone into them, at least one. Raises ContestantError if one fails."""
        request = request_bytes(server, question)
        firsts: list[float] = []
        lasts: list[float] = []
        server.watch_peak()
        with connect(server.port) as client:
            while not lasts or sum(lasts) < seconds:
                answer = exchange(client, request)
                if answer.status != 200:
                    raise ContestantError(f"status {answer.status}: {bytes(answer.content[:200])!r}")
                if not question.is_answer(bytes(answer.content), server.contestant.is_wrapped):
                    raise ContestantError(f"a wrong answer: {bytes(answer.content[:200])!r}")
                firsts.append(answer.first_s)
                lasts.append(answer.last_s)
        figures = in_us(lasts)
        figures["requests"] = len(lasts)
        figures["seconds"] = sum(lasts)
        figures["rps"] = len(lasts) / sum(lasts)
        figures["units_per_s"] = self.units / statistics.median(lasts)
        figures["first_us"] = statistics.median(firsts) * 1e6
        # The whole, not its growth: what an earlier exchange left with the allocator is there from the start.
        figures["peak_kb"] = server.peak_kb()
        figures["errors"] = 0
        return figures
