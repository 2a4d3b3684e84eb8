"""From made-up results to what a person reads: nothing is left out, and every place of the page has figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench import workloads
from bench.report import page, plots, results, summary, table
from bench.report.results import Occasion, OtherMachineError, Run


def rounds(*rates: float, **more: float) -> dict[str, Any]:
    figures = {
        "cpu_us": 20.0,
        "p50_us": 1500.0,
        "p99_us": 3000.0,
        "p999_us": 4000.0,
        "memory_kb": 2000.0,
        "errors": 0.0,
        "requests": 1000.0,
    }
    return {"rounds": [{**figures, "rps": rate, **more} for rate in rates]}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    measured = {
        "sync-c64": {
            "floor": rounds(100, 200, 300),
            "fastserve": rounds(50, 120, 120, cpu_us=40.0),
            "fastapi": rounds(5, 6, 6, errors=3.0),
            "protocol": rounds(80, 80, 80, cpu_us=24.0),
            "ray": {"rounds": [], "error": "ended with 1:\n| a `bad` day"},
        },
        "sync-c1": {"floor": rounds(10), "fastserve": rounds(5)},
        "paced": {"floor": {"rounds": [], "lacks": "parses no request"}},
        "start": {"fastserve": {"rounds": [{"start_s": 0.2, "memory_kb": 1000.0, "errors": 0.0}]}},
    }
    versions = {"fastserve": {"fastserve": "1.0", "orjson": "3"}, "floor": {"uvloop": "0.2"}}
    facts = {"date": "1843-01-01", "processor": "abacus", "cores": "10"}
    results.save(tmp_path, Run({}, {}).joined(Occasion(facts, 3, 1, versions), measured))
    return results.load(tmp_path)


def later(run: Run, **changes: str) -> Occasion:
    """A second occasion on the machine of `run`, but for `changes` in its facts."""
    facts = {**run.occasions[0].facts, "date": "1843-02-02", **changes}
    return Occasion(facts, 1, 1, {"fastserve": {"fastserve": "1.1", "orjson": "3"}})


def test_ratios_are_of_the_same_round(run: Run) -> None:
    assert run.ratio("sync-c64", "fastserve", "rps") == 0.5
    assert run.ratio("sync-c64", "fastserve", "rps", base="fastapi") == 20
    assert run.ratio("sync-c64", "ray", "rps") is None
    cell = run.cell("sync-c64", "fastserve", "rps")
    assert cell is not None
    assert (cell.median, round(cell.spread, 3)) == (120, 0.292)


def test_the_table_shows_figures_errors_and_those_that_failed(run: Run) -> None:
    text = table.document(run)
    assert "| abacus |" in text
    assert "| fastserve | 120 ±29 % (x0.50) | 40.0 (x2.00) |" in text
    assert "| 200 ±50 % |" in text
    assert "| **9** |" in text
    assert "| Ray Serve | **failed**: ended with 1: / a 'bad' day |" in text
    assert "not offered: parses no request" in text
    assert "| fastserve | 1.0 | orjson 3 |" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_what_is_measured_again_takes_the_place_of_what_was_and_the_rest_stays(run: Run, tmp_path: Path) -> None:
    again = {"sync-c1": {"fastserve": rounds(7)}, "half": {"fastserve": rounds(8)}}
    joined = run.joined(later(run), again)
    results.save(tmp_path, joined)
    for both in (joined, results.load(tmp_path)):
        assert both.workloads == ["sync-c64", "sync-c1", "paced", "start", "half"]
        assert both.contestants("sync-c1") == ["fastserve"]
        assert both.values("sync-c1", "fastserve", "rps") == [7]
        assert both.values("sync-c64", "floor", "rps") == [100, 200, 300]
        assert [both.occasion(name).rounds for name in ("sync-c64", "sync-c1")] == [3, 1]
        assert len(both.occasions) == 2


def test_an_occasion_of_which_nothing_is_left_is_forgotten(run: Run, tmp_path: Path) -> None:
    measured = {name: {"fastserve": rounds(7)} for name in run.workloads}
    results.save(tmp_path, run.joined(later(run), measured))
    (left,) = results.load(tmp_path).occasions
    assert left == later(run)


def test_what_another_machine_measured_is_not_joined(run: Run) -> None:
    with pytest.raises(OtherMachineError, match="processor: abacus, not engine"):
        run.joined(later(run, processor="engine"), {})
    assert Run({}, {}).joined(later(run, processor="engine"), {}).workloads == []


def test_the_table_says_what_was_measured_when_and_with_which_versions(run: Run) -> None:
    assert table.occasion_table(run) == ""
    text = table.document(run.joined(later(run, kernel="6"), {"sync-c1": {"fastserve": rounds(7)}}))
    assert "| measured | date | kernel | rounds | other versions |" in text
    assert "| sync-c64, paced, start | 1843-01-01 |  | 3 of 1 s" in text
    assert "| fastserve 1.0 (fastserve) |" in text
    assert "| sync-c1 | 1843-02-02 | 6 | 1 of 1 s" in text
    assert "| fastserve | 1.1 | orjson 3 |" in text
    assert text.count("| abacus |") == 1


def test_the_table_says_which_rounds_are_fewer_or_longer(run: Run) -> None:
    assert "| rounds | 3 of 1 s (idle: 1; 12 s where repeated), interleaved;" in table.document(run)


@pytest.mark.parametrize(
    "fewest, cell",
    [
        ({"requests": 1000.0}, "4.00"),
        ({"requests": 999.0}, "-"),
        ({"requests": 10.0, "answers": 1000.0}, "4.00"),
        ({"requests": 10.0, "answers": 999.0}, "-"),
    ],
)
def test_the_maximum_of_few_answers_is_not_told_as_a_quantile(run: Run, fewest: dict[str, float], cell: str) -> None:
    figures = rounds(100, requests=5000.0, answers=5000.0)["rounds"][0]
    if "answers" not in fewest:
        del figures["answers"]
    measured = {"sync-c1": {"fastserve": {"rounds": [figures, {**figures, **fewest}]}}}
    text = table.workload_table(run.joined(later(run), measured), workloads.BY_NAME["sync-c1"])
    assert f"| 1.50 | 3.00 | {cell} |" in text


def test_a_workload_is_there_with_all_contestants_rounds_and_seconds(run: Run) -> None:
    assert run.has("sync-c64", ["floor", "fastserve", "ray"], 3, 1)  # ray failed, and was measured so
    assert not run.has("sync-c64", ["floor", "truss"], 3, 1)
    assert not run.has("sync-c64", ["floor"], 5, 1)
    assert not run.has("sync-c64", ["floor"], 3, 2)
    assert not run.has("sync-c8", ["floor"], 3, 1)


def test_every_workload_has_columns() -> None:
    for workload in workloads.WORKLOADS:
        assert table.columns(workload)


def test_plots_are_drawn_where_there_is_more_than_one_point(run: Run, tmp_path: Path) -> None:
    (file,) = plots.draw_all(run, tmp_path)
    first = file.read_text()
    assert file.name == "sync.svg"
    assert "<svg" in first
    plots.draw_all(run, tmp_path)
    assert file.read_text() == first  # the same results, the same file


def test_the_places_of_the_page_are_filled_and_nothing_else_changes(run: Run) -> None:
    text = "before\n<!-- connections -->\nold\n<!-- /connections -->\nafter <!-- a comment -->\n"
    text += "<!-- slots -->\n<!-- /slots -->"
    filled = page.filled(text, run)
    assert filled.startswith("before\n<!-- connections -->\n| connections | requests/s |")
    assert "| 64 | 120 | 40.0 | 2.00 | 1.50 | 3.00 |" in filled
    assert "old" not in filled
    assert filled.endswith(f"after <!-- a comment -->\n<!-- slots -->\n{summary.NOTHING}\n<!-- /slots -->")
    assert page.filled(filled, run) == filled


@pytest.mark.parametrize("file", page.PAGES)
def test_a_page_names_no_place_that_cannot_be_filled(run: Run, file: Path) -> None:
    page.filled(file.read_text(), run)


def test_requests_are_told_beside_the_floor(run: Run) -> None:
    lines = summary.requests(run).splitlines()
    assert lines[2] == "| the floor | 200 |  | 20.0 us |  | 1.50 ms |  | 3.0 ms |"
    assert lines[3] == "| plain `predict` | 120 | 0.50 | 40.0 us | 2.00 | 1.50 ms | 1.00 | 3.0 ms |"
    assert lines[4].startswith("| plain `predict`, one connection | 5 | 0.50 |")
    assert len(lines) == 5


def test_large_content_is_told_beside_a_socket_that_does_nothing_else(run: Run) -> None:
    figures = {"fastserve": 2e9, "sink": 4e9}
    measured = {"upload-10m": {name: {"rounds": [{"units_per_s": rate}]} for name, rate in figures.items()}}
    assert summary.others(run.joined(later(run), measured)).splitlines()[2:] == [
        "| start of the process to the first answered predict | 0.20 s |",
        "| memory of a trivial model | 1 MB |",
        "| 10 MB of raw bytes up | 2.0 GB/s: 0.50 of what one blocking socket does |",
    ]


def test_peers_are_compared_with_fastserve(run: Run) -> None:
    assert "| FastAPI on uvicorn | 20.0 times |" in page.against_peers(run)


def test_batches_are_compared_with_one_by_one_for_those_that_have_both(run: Run) -> None:
    measured = {
        "minilm-c1": {"fastserve": rounds(40, p50_us=20_000.0), "mosec": rounds(39)},
        "minilm-c32": {"fastserve": rounds(50), "mosec": rounds(49), "truss": rounds(48)},
        "minilm-batched-c1": {"fastserve": rounds(40, p50_us=20_100.0), "mosec": {"rounds": [], "error": "late"}},
        "minilm-batched-c32": {"fastserve": rounds(110), "mosec": rounds(100)},
    }
    assert page.batching(run) == summary.NOTHING
    (row,) = page.batching(run.joined(later(run), measured)).splitlines()[2:]
    assert row == "| fastserve | 50 | 110 | 2.2 | 20.00 | 20.10 |"


def test_the_distance_to_the_floor_is_told_layer_upon_layer(run: Run) -> None:
    assert "| sync-c64 | 20.0 | 4.0 | 16.0 | 40.0 |" in page.distance(run)
    assert "sync-c1 " not in page.distance(run)
