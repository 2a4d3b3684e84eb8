"""What a header section costs: parsed; with one new value in it; all as before. python -m bench.micro.parse"""

from __future__ import annotations

import timeit

from fastserve.config import Config
from fastserve.http11.form import Form
from fastserve.http11.parser import parse_head

FEW = b"Host: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
MANY = FEW + b"".join(b"X-Field-%d: some value of ordinary length\r\n" % number for number in range(17))
NUMBER = 20_000


def microseconds(statement: str, names: dict[str, object]) -> float:
    """The best of several runs: noise only ever adds."""
    return min(timeit.repeat(statement, globals=names, number=NUMBER, repeat=7)) / NUMBER * 1e6


def main() -> None:
    for title, fields in (("3 fields", FEW), ("20 fields", MANY)):
        section = b"POST /v1/models/model:predict HTTP/1.1\r\nX-Trace: 0123456789abcdef\r\n" + fields + b"\r\n"
        names = {"parse": parse_head, "section": section, "config": Config(), "received": section + b'{"v": 12}'}
        names["form"] = Form(parse_head(section, Config()), frozenset({b"x-trace"}), Config())
        parsed = microseconds("parse(section, config)", names)
        filled = microseconds("form.fill(received)", names)
        repeated = microseconds("received.startswith(section)", names)
        print(f"{title:9}: parsed {parsed:.2f} us, one new value {filled:.2f} us, all as before {repeated:.2f} us")


if __name__ == "__main__":
    main()
