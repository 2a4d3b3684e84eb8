"""Metrics as text: Prometheus's format 0.0.4, or OpenMetrics 1.0 for whoever asks for it.

What is measured is `server_metrics.py`'s and `model_metrics.py`'s to know. Called by `metrics.py` for each scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from fastserve.metrics import NANO, Histogram

# 2**15 ns are 33 us, 2**36 ns are 69 s: what is quicker is all one, what is slower is too slow whatever it is.
FIRST_BUCKET: Final = 15
LAST_BUCKET: Final = 36
# A batch of more than a thousand is large whatever it is. The same for every model, so that they can be added up.
SIZES: Final = tuple(1 << power for power in range(11))

# What would end a label's value, or the line (exposition formats, label_value).
_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One line. suffix: behind the family's name, such as `_total`."""

    suffix: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """One metric. kind: counter, gauge or histogram. name: without the `_total` of a counter."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def text_of(families: Iterable[Family], *, is_openmetrics: bool) -> bytes:
    """`families` as lines. In 0.0.4 a counter is declared with its `_total`, in OpenMetrics without."""
    lines: list[str] = []
    for family in families:
        name = family.name + ("_total" if family.kind == "counter" and not is_openmetrics else "")
        lines.append(f"# HELP {name} {family.help}")
        lines.append(f"# TYPE {name} {family.kind}")
        lines += [
            f"{family.name}{sample.suffix}{_labels(sample.labels)} {_number(sample.value)}"
            for sample in family.samples
        ]
    return "".join(line + "\n" for line in lines).encode()


def _labels(labels: Labels) -> str:
    pairs = [f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(round(value, 9))


def counter(name: str, help: str, values: Iterable[tuple[Labels, float]]) -> Family:
    return Family(name, "counter", help, [Sample("_total", labels, value) for labels, value in values])


def total(name: str, help: str, value: float) -> Family:
    """A counter that is one number."""
    return counter(name, help, [((), value)])


def gauge(name: str, help: str, value: float) -> Family:
    return Family(name, "gauge", help, [Sample("", (), value)])


def histogram(name: str, help: str, counted: Iterable[tuple[Labels, Histogram]]) -> Family:
    return Family(name, "histogram", help, [sample for labels, one in counted for sample in _buckets(labels, one)])


def _buckets(labels: Labels, one: Histogram) -> Iterator[Sample]:
    counts = tuple(one.counts)  # the loop goes on counting
    below = sum(counts[: FIRST_BUCKET + 1])
    for power in range(FIRST_BUCKET, LAST_BUCKET + 1):
        if power > FIRST_BUCKET:
            below += counts[power]
        yield Sample("_bucket", (*labels, ("le", _number((1 << power) * NANO))), below)
    total = sum(counts)
    yield Sample("_bucket", (*labels, ("le", "+Inf")), total)
    yield Sample("_sum", labels, one.total_ns * NANO)
    yield Sample("_count", labels, total)


def size_histogram(name: str, help: str, counted: Mapping[int, int]) -> Family:
    """counted: by size, how many there were of it."""
    samples = [
        Sample("_bucket", (("le", _number(float(size))),), sum(n for one, n in counted.items() if one <= size))
        for size in SIZES
    ]
    count = sum(counted.values())
    samples.append(Sample("_bucket", (("le", "+Inf"),), count))
    samples.append(Sample("_sum", (), sum(size * n for size, n in counted.items())))
    samples.append(Sample("_count", (), count))
    return Family(name, "histogram", help, samples)
