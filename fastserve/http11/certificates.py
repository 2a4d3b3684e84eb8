"""The certificate that the server shows: read at start, and anew when it has been renewed.

How connections are encrypted with it is `tls_handshake.py`'s and `tls.py`'s. Made by `entrance.py`.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from fastserve.config import Config
from fastserve.errors import SetupError

_logger: Final = logging.getLogger("fastserve")

_MISMATCH: Final = "KEY_VALUES_MISMATCH"


class Certificates:
    """context: what new connections are encrypted with; those that are there keep theirs."""

    __slots__ = ("_config", "context")

    def __init__(self, config: Config) -> None:
        """Raises SetupError if the files are not what they must be."""
        self._config = config
        self.context = make_context(config)

    def reload(self) -> None:
        """Read the files anew; if they are bad that is logged, and the certificate from before stays.

        From any thread.
        """
        try:
            self.context = make_context(self._config)
        except SetupError as error:
            _logger.error("%s; the certificate from before stays", error)
        else:
            _logger.info("the certificate is read anew: %s", self._config.ssl_certfile)


def make_context(config: Config) -> ssl.SSLContext:
    """What connections are encrypted with: TLS 1.2 and 1.3, HTTP/1.1, Python's own choice of ciphers.

    Raises SetupError for files that cannot be read, do not fit together or are no certificate and key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996: the older ones must not be spoken
    # To negotiate anew costs the server ten times what it costs the client, and nobody needs it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load(context, config)
    return context


def _load(context: ssl.SSLContext, config: Config) -> None:
    certificate, key = config.ssl_certfile, config.ssl_keyfile
    _check_readable("--ssl-certfile", certificate)
    if key:
        _check_readable("--ssl-keyfile", key)
    was_asked = False

    def password() -> bytes:  # without it OpenSSL would ask at the terminal
        nonlocal was_asked
        was_asked = True
        return _read_password(config.ssl_password_file)

    try:
        context.load_cert_chain(certificate, key or None, password)
    except ssl.SSLError as error:
        raise SetupError(_explain(error, certificate, key, had_password=was_asked)) from None
    except (OSError, ValueError) as error:  # taken away since it was looked at; a password longer than OpenSSL takes
        raise SetupError(f"cannot use --ssl-certfile {certificate}: {error}") from None


def _explain(error: ssl.SSLError, certificate: str, key: str, *, had_password: bool) -> str:
    """What OpenSSL found wrong, in words: its own are `[SSL] PEM lib`."""
    if error.reason == _MISMATCH:
        return f"the private key in {key or certificate} is not that of the certificate in {certificate}"
    if had_password and error.reason is None:  # `[SSL] PEM lib` stands for that, too
        return f"the password in --ssl-password-file is not that of the private key in {key or certificate}"
    where = f"--ssl-certfile {certificate}" + (f" and --ssl-keyfile {key}" if key else "")
    return f"{where}: not a certificate and its private key in PEM that OpenSSL takes ({error.reason or error})"


def _check_readable(flag: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise SetupError(f"cannot read {flag} {path}: {error.strerror}") from None


def _read_password(path: str) -> bytes:
    """Called if the key is encrypted."""
    if not path:
        raise SetupError("the private key is encrypted: --ssl-password-file says where its password is")
    try:
        with Path(path).open("rb") as file:
            return file.readline().rstrip(b"\r\n")
    except OSError as error:
        raise SetupError(f"cannot read --ssl-password-file {path}: {error.strerror}") from None
