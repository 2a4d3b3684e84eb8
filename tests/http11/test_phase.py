"""The table of phases itself."""

from fastserve.http11.phase import MOVES, Phase


def test_every_phase_has_its_moves_and_only_closed_is_an_end() -> None:
    assert set(MOVES) == set(Phase)
    assert [phase for phase, moves in MOVES.items() if not moves] == [Phase.CLOSED]


def test_every_phase_can_be_left_by_a_lost_connection() -> None:
    assert all(Phase.CLOSED in moves for phase, moves in MOVES.items() if phase is not Phase.CLOSED)
