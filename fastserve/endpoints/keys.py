"""API keys: read from a file and the environment, and asked for before a route is given out.

Which routes are for everybody is the router's to say (Route.is_open). Made by `entrance.py`, if there are keys.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from fastserve.config import KEYS_VARIABLE
from fastserve.endpoints.failures import truss_error
from fastserve.endpoints.marks import FROM_CLIENT
from fastserve.errors import SetupError
from fastserve.messages import Head, Request, Route
from fastserve.metrics import Metrics

# What a guard looks at: heads that differ in these are not to share a route.
KEY_FIELDS: Final = frozenset({b"authorization", b"x-api-key"})

# What requests without a key are counted as.
UNAUTHORIZED: Final = "unauthorized"

_KEY: Final = re.compile("[!-~]+")  # what can stand in a header field, without spaces
_COMMENT: Final = re.compile(r"(^|\s)#.*")

_logger: Final = logging.getLogger("fastserve")

# One answer for no key and for a wrong one. (RFC 9110 section 11.6.1 wants the challenge.)
_UNAUTHORIZED: Final = truss_error(
    401,
    FROM_CLIENT,
    "an API key is needed, as X-API-Key or as Authorization: Bearer",
    b'WWW-Authenticate: Bearer realm="fastserve"\r\n',
)


class ApiKeys:
    """The keys that are taken. Only their digests are kept: nothing that is logged or raised could show a key."""

    __slots__ = ("_digests", "_file", "_fixed", "_salt")

    def __init__(self, file: str, said: str) -> None:
        """file: path of one, or "". said: what stands in the environment. Raises SetupError if one is wrong."""
        self._salt = os.urandom(32)  # nobody can choose what is compared
        self._file = file
        self._fixed = self._digests_of(split_keys(said)) if said else []
        self._digests = self._read()

    def admit(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether a request with these header fields brings a key that is taken."""
        is_in = self._hold(fields.get(b"x-api-key", b""))
        scheme, _, token = fields.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":  # RFC 6750 section 2.1
            is_in = self._hold(token.strip()) or is_in
        return is_in

    def reload(self) -> bool:
        """Read the file anew. Returns whether its keys are taken now; else it is bad: logged, and the old stay.

        From any thread.
        """
        try:
            self._digests = self._read()
        except SetupError as error:
            _logger.error("%s; the API keys from before stay", error)
            return False
        return True

    def log_reload(self) -> None:
        """Say that the new ones are what counts now."""
        _logger.info("the API keys are read anew: %d", len(self._digests))

    def _hold(self, given: bytes) -> bool:
        """Takes as long whichever key it is, and if it is none."""
        digest = self._digest(given)
        return sum(hmac.compare_digest(digest, one) for one in self._digests) > 0

    def _read(self) -> list[bytes]:
        return self._fixed + (self._digests_of(read_key_file(self._file)) if self._file else [])

    def _digests_of(self, keys: Iterable[str]) -> list[bytes]:
        return [self._digest(key.encode()) for key in dict.fromkeys(keys)]

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt, digest_size=32).digest()


def read_key_file(path: str) -> list[str]:
    """The keys in a file: one a line; what follows a # at the begin of a line, or behind a space, is a comment.

    Raises SetupError, which never repeats what stands in the file.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise SetupError(f"cannot read --api-key-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SetupError(f"--api-key-file {path} is not a text in UTF-8") from None
    return _check([_COMMENT.sub("", line).strip() for line in lines], f"--api-key-file {path}", "line")


def split_keys(said: str) -> list[str]:
    """The keys in a text, with commas between. Raises SetupError."""
    return _check([key.strip() for key in said.split(",")], KEYS_VARIABLE, "number")


def _check(keys: list[str], where: str, unit: str) -> list[str]:
    for number, key in enumerate(keys, 1):
        if key and _KEY.fullmatch(key) is None:
            raise SetupError(f"{where}, {unit} {number}: an API key has visible ASCII characters alone, and no space")
    if not any(keys):
        raise SetupError(f"{where} holds no API key")
    return [key for key in keys if key]


class Guard:
    """Finds the route of who has a key, or needs none; the others' is a refusal.

    Asked once for each header section, as what it stands before is.
    """

    __slots__ = ("_find", "_keys", "_metrics", "_refusal")

    def __init__(self, keys: ApiKeys, find: Callable[[Head], Route], metrics: Metrics | None = None) -> None:
        self._keys = keys
        self._find = find
        self._metrics = Metrics() if metrics is None else metrics
        self._metrics.rejected[UNAUTHORIZED] += 0  # there from the start
        self._refusal = Route(self._refuse, self._metrics.endpoint("none"), is_refusal=True)

    def route(self, head: Head) -> Route:
        """401 also for paths that are not there: nobody is told which are."""
        route = self._find(head)
        return route if route.is_open or self._keys.admit(head.fields) else self._refusal

    def _refuse(self, request: Request) -> None:
        self._metrics.rejected[UNAUTHORIZED] += 1
        request.connection.send_response(request, _UNAUTHORIZED)
