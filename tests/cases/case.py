"""What one case is: the raw bytes of a connection, what is answered to them, and where the rule is written.

No bytes are sent here. `data/` makes cases with these constructors; `judge.py` compares.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

# What most cases begin with. `/predict` shows what it was given, `/livez` takes no content and answers `true`.
POST: Final = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
GET: Final = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
CHUNKED: Final = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST: Final = b"0\r\n\r\n"  # the last-chunk without trailers
FIRST: Final = POST + b"Content-Length: 5\r\n\r\nfirst"  # a good request before the one a case is about
# What an attacker hides in the content of another request. Where a case has it, the model must not see it.
SMUGGLED: Final = POST + b"Content-Length: 8\r\n\r\nsmuggled"
# Sent behind every case (but those that end the connection themselves): if the connection is kept, it must be
# answered, so that both ends agree on where the case ended; behind a refusal nobody may look at it.
BEHIND: Final = b"POST /predict HTTP/1.1\r\nHost: behind\r\nConnection: close\r\nContent-Length: 6\r\n\r\nbehind"


@dataclass(frozen=True)
class Wanted:
    """One answer that is wanted.

    statuses: each of them will do; more than one only where the rule leaves the choice.
    seen: the content that the model has been given; None if the model is not asked.
    url, host, tag: what the model is told of the target, of Host and of X-Tag; None if they do not matter here.
    content: that of the answer; None if it does not matter.
    is_head: the request was HEAD: fields and no content.
    fields: (lower-case name, value) the answer must have; a value of "" forbids the field.
    """

    statuses: Set[int]
    seen: bytes | None = None
    url: str | None = None
    host: str | None = None
    tag: str | None = None
    content: bytes | None = None
    is_head: bool = False
    fields: tuple[tuple[str, str], ...] = ()


# In a case an answer stands as a status, a set of permitted ones, the content that the model has seen, or in full.
Answered = int | Set[int] | bytes | Wanted


def seen(
    content: bytes, *, url: str | None = None, host: str | None = None, tag: str | None = None, **fields: str
) -> Wanted:
    """200 from the model, which was given `content`, and was told `url` and the fields Host and X-Tag ("" for none).

    fields: those of the answer, as for `status`.
    """
    return Wanted({200}, seen=content, url=url, host=host, tag=tag, fields=_pairs(fields))


def status(code: int, content: bytes | None = None, **fields: str) -> Wanted:
    """An answer with these header fields (`_` for `-`; "" for a field that must be absent) and this content."""
    return Wanted({code}, content=content, fields=_pairs(fields))


def bare(code: int, **fields: str) -> Wanted:
    """The answer to HEAD: the fields of GET's, and no content."""
    return Wanted({code}, is_head=True, fields=_pairs(fields))


def _pairs(fields: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", "-"), value) for name, value in fields.items())


@dataclass(frozen=True)
class Case:
    """Raw bytes on one connection, and what comes of them.

    name: short, unlike any other. source: RFC section, llhttp's leniency or the class of smuggling.
    pieces: sent one after the other, each once something has been answered to the one before.
    wanted: the answers, in order; interim ones (100) only as `interim`.
    is_kept: the connection is good for a further request afterwards.
    is_refusal: the last answer is the server's own refusal: an error that says why, and nothing behind it is parsed.
    ends: the client shuts its side down behind the bytes. waits: it says nothing more, until a deadline has passed.
    needs_model: only the real model answers so; the fake one does not know how.
    is_cut: the same is answered however the bytes are cut into reads.
    """

    name: str
    source: str
    pieces: tuple[bytes, ...]
    wanted: tuple[Wanted, ...]
    interim: int = 0
    is_kept: bool = False
    is_refusal: bool = False
    ends: bool = False
    waits: bool = False
    needs_model: bool = False
    is_cut: bool = True

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def seen(self) -> list[bytes]:
        """The contents that the model is given, in order; that of BEHIND too."""
        return [w.seen for w in self.all_wanted if w.seen is not None]

    @property
    def all_wanted(self) -> tuple[Wanted, ...]:
        """The answers to the case and to BEHIND."""
        return (*self.wanted, seen(b"behind", url="http://behind/predict", tag="")) if self.is_kept else self.wanted

    @property
    def sent(self) -> tuple[bytes, ...]:
        """The pieces as they are sent, the last with BEHIND."""
        if self.ends or self.waits:
            return self.pieces
        return (*self.pieces[:-1], self.pieces[-1] + BEHIND)


def _read_wanted(answered: Answered) -> Wanted:
    if isinstance(answered, Wanted):
        return answered
    if isinstance(answered, bytes):
        return seen(answered)
    return Wanted({answered} if isinstance(answered, int) else answered)


def _make(
    name: str, source: str, raw: bytes | tuple[bytes, ...], answers: tuple[Answered, ...], **facts: bool
) -> Case:
    pieces = raw if isinstance(raw, tuple) else (raw,)
    finals = tuple(_read_wanted(a) for a in answers if a != 100)
    return Case(name, source, pieces, finals, interim=len(answers) - len(finals), **facts)


def taken(
    name: str, source: str, raw: bytes | tuple[bytes, ...], *answers: Answered, needs_model: bool = False
) -> Case:
    """Answered, and the connection kept."""
    return _make(name, source, raw, answers, is_kept=True, needs_model=needs_model)


def refused(name: str, source: str, raw: bytes | tuple[bytes, ...], *answers: Answered) -> Case:
    """Refused by the last answer, which says why and closes; nothing behind it is parsed."""
    return _make(name, source, raw, answers, is_refusal=True)


def closed(
    name: str, source: str, raw: bytes | tuple[bytes, ...], *answers: Answered, needs_model: bool = False
) -> Case:
    """Answered, the last answer closes, and nothing behind it is parsed."""
    return _make(name, source, raw, answers, needs_model=needs_model)


def ended(name: str, source: str, raw: bytes, *answers: Answered) -> Case:
    """The client shuts its side down behind the bytes: what is complete is answered, the rest is dropped."""
    return _make(name, source, raw, answers, ends=True)


def silent(name: str, source: str, raw: bytes, *answers: Answered) -> Case:
    """The client says nothing more: a deadline passes. 408 is the server's own refusal."""
    case = _make(name, source, raw, answers, waits=True)
    return _make(name, source, raw, answers, waits=True, is_refusal=any(408 in w.statuses for w in case.wanted))
