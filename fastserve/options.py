"""What a single option is: how it is set from outside, and the kinds of values there are.

Each parser takes a text from the command line or environment, or a value of config.yaml, and raises ValueError with
what it takes. Used by `config.py`, which declares the options.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
PREFIX: Final = "FASTSERVE_"

Parse = Callable[[object], Any]


def whole_number(least: int, most: int) -> Parse:
    """A parser for whole numbers from `least` to `most`. It raises ValueError with what it takes."""

    def parse(value: object) -> int:
        try:
            number = int(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            raise ValueError(f"takes a whole number from {least} to {most}")
        return number

    return parse


def seconds(least: float, most: float) -> Parse:
    """A parser for a time in seconds from `least` to `most`."""

    def parse(value: object) -> float:
        try:
            number = float(value) if isinstance(value, (str, int, float)) else -1.0
        except (ValueError, OverflowError):
            number = -1.0
        if isinstance(value, bool) or not least <= number <= most:
            raise ValueError(f"takes a number of seconds from {least:g} to {most:g}")
        return number

    return parse


SIZE_UNITS: Final = {"": 1, "k": KIB, "m": MIB, "g": 1024 * MIB}


def size(least: int, most: int) -> Parse:
    """A parser for a number of bytes: 1000, 64k, 100M, 1GiB (powers of 1024)."""

    def parse(value: object) -> int:
        text = str(value).strip().lower().removesuffix("b").removesuffix("i")
        digits = text.rstrip("kmg")
        unit = SIZE_UNITS.get(text[len(digits) :])
        if isinstance(value, bool) or unit is None or not (digits.isascii() and digits.isdigit()):
            raise ValueError("takes a number of bytes such as 65536, 64k, 100M or 1G")
        number = int(digits) * unit
        if not least <= number <= most:
            raise ValueError(f"takes a number of bytes from {least} to {most}")
        return number

    return parse


def one_of(*choices: str) -> Parse:
    """A parser for one of `choices`, in any case."""

    def parse(value: object) -> str:
        text = str(value).lower()
        if text not in choices:
            raise ValueError(f"takes one of {', '.join(choices)}" + did_you_mean(text, choices))
        return text

    return parse


def several_of(*choices: str) -> Parse:
    """A parser for some of `choices`: a list, or a text with commas between; also `all` and `none`."""
    parse_one = one_of(*choices, "all", "none")

    def parse(value: object) -> tuple[str, ...]:
        words = value if isinstance(value, (list, tuple)) else str(value).split(",")
        said = {parse_one(str(word).strip()) for word in words}
        if len(said) > 1 and said & {"all", "none"}:
            raise ValueError("takes `all` and `none` only alone")
        return choices if "all" in said else tuple(choice for choice in choices if choice in said)

    return parse


def text(value: object) -> str:
    """A parser for any text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("takes a text that is not empty")
    return value.strip()


def path(value: object) -> str:
    """A parser for a path; it becomes absolute now, before the model's directory is the working directory."""
    if isinstance(value, str) and value.strip() and "\0" not in value:
        try:
            return str(Path(value).expanduser().absolute())
        except RuntimeError:  # ~name, and nobody has that name
            pass
    raise ValueError("takes a path")


def optional(parse: Parse) -> Parse:
    """A parser for what `parse` takes, or for nothing: an empty text, or `none`."""

    def parse_if_any(value: object) -> Any:
        return "" if value in ("", "none") else parse(value)

    return parse_if_any


def file_mode(value: object) -> str:
    """A parser for the permissions of a file, as chmod takes them; four octal digits."""
    if not isinstance(value, str) or re.fullmatch("0?[0-7]{3}", value) is None:
        raise ValueError("takes permissions in octal such as 0660")
    return value.rjust(4, "0")


# Scheme, host and port, as browsers send them (RFC 6454 section 7.1). Not `null`: that is every page in a sandbox.
ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._~%:\[\]-]+")


def origins(value: object) -> tuple[str, ...]:
    """A parser for origins: a list, or a text with commas between; `*` for every one, `none` for no one."""
    words = value if isinstance(value, (list, tuple)) else str(value).split(",")
    said = tuple(dict.fromkeys(str(word).strip().lower() for word in words))
    if said == ("none",):
        return ()
    if said != ("*",) and not all(map(ORIGIN.fullmatch, said)):
        raise ValueError("takes origins such as https://example.com, with commas between, or * alone")
    return said


SWITCH_WORDS: Final = {
    **dict.fromkeys(("1", "on", "true", "yes"), True),
    **dict.fromkeys(("0", "off", "false", "no"), False),
}


def switch(value: object) -> bool:
    """A parser for what is on or off. An option with it is a flag without a value, and has a --no- form."""
    is_on = SWITCH_WORDS.get(str(value).strip().lower())
    if is_on is None:
        raise ValueError(f"takes one of {', '.join(SWITCH_WORDS)}")
    return is_on


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' with the known name nearest to `word`, or nothing if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


@dataclasses.dataclass(frozen=True)
class Option:
    """How one field of Config is set from outside.

    flag: with its dashes. yaml: its name under `runtime`; `outer.inner` for one in a mapping there.
    """

    flag: str
    help: str
    parse: Parse
    metavar: str
    group: str
    yaml: str | None
    environment: tuple[str, ...]  # names that are tried after FASTSERVE_<FLAG>

    @property
    def variable(self) -> str:
        return PREFIX + self.flag.removeprefix("--").replace("-", "_").upper()

    @property
    def off_flag(self) -> str | None:
        """The flag that turns a switch off; None for an option that takes a value."""
        return "--no-" + self.flag.removeprefix("--") if self.parse is switch else None


def option(
    default: Any,
    flag: str,
    help: str,
    parse: Parse,
    *,
    metavar: str = "N",
    group: str = "serving",
    yaml: str | None = None,
    environment: tuple[str, ...] = (),
) -> Any:
    """Declare one option as a dataclass field."""
    declared = Option(flag, help, parse, metavar, group, yaml, environment)
    return dataclasses.field(default=default, metadata={"option": declared})
