"""Whose fault it is: the peer's, the user's command line or directory, or the model's code. A bug of ours is none.

Knows no status code but those that name a peer's mistake; `endpoints/failures.py` maps the rest to responses.
Raised everywhere, caught in `http11/connection.py`, `endpoints/failures.py` and `cli.py`.
"""

from __future__ import annotations


class RequestError(Exception):
    """The peer sent what this server refuses.

    status: the 4xx or 5xx status code to answer with (RFC 9110 section 15).
    message: one sentence that names the rule; it never repeats the peer's bytes.
    fields: header fields the answer must carry, such as `Accept-Encoding` with a 415.
    """

    def __init__(self, status: int, message: str, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = fields


class SetupError(Exception):
    """The command line, the environment, `config.yaml` or the model directory is wrong.

    The message is complete: it says where (file, line) and what to write instead.
    """


class ModelError(Exception):
    """User code, or what it returned, cannot be turned into an answer."""


class ModelDefinitionError(ModelError):
    """The model class does not keep to the contract (wrong signature or combination of methods)."""


class ResultError(ModelError):
    """A result cannot be encoded as the content of a response; `__cause__` says why."""


class DeadlineError(Exception):
    """The request's deadline passed before its predict could begin."""


class LoadError(ModelError):
    """The model's import, construction or `load` raised; `__cause__` is what it raised."""


def text_of(error: BaseException) -> str:
    """`str(error)`, or what kind it is if user code made it one that cannot be shown."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - its `__str__` is user code
        return f"<{type(error).__name__} that cannot be shown>"
