"""Options that make no sense together are refused, and those that do are not."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve.combinations import check_combinations
from fastserve.config import Config
from fastserve.errors import SetupError


@pytest.mark.parametrize(
    ("said", "arguments", "words"),
    [
        ({"uds": "/a", "port": 1}, {"port": "1"}, "--port and --uds exclude each other"),
        ({"uds": "/a", "host": "::"}, {"host": "::"}, "--host and --uds exclude each other"),
        ({"uds": "/a", "max_connections_per_client": 1}, {}, "--max-connections-per-client: clients of"),
        ({"uds_mode": "0600"}, {}, "--uds-mode does nothing without --uds"),
        ({"uds": "/a", "port": 1, "metrics_port": 2}, {"port": "1"}, "--port and --uds exclude each other"),
        ({"port": 9, "metrics_port": 9}, {}, "--metrics-port 9 is --port, too"),
        ({}, {"api_key_file": ""}, "--api-key-file needs the path of a file"),
        ({"ssl_keyfile": "/a"}, {}, "--ssl-keyfile does nothing without --ssl-certfile"),
        ({"ssl_password_file": "/a"}, {}, "--ssl-password-file does nothing without --ssl-certfile"),
        ({"max_connections_per_client": 11, "max_connections": 10}, {}, "--max-connections-per-client 11 does"),
        ({"min_content_rate": 0, "content_grace_s": 1.0}, {}, "--timeout-content-grace does nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any], arguments: dict[str, str], words: str) -> None:
    with pytest.raises(SetupError) as refused:
        check_combinations(Config(**said), arguments)
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ({}, {}),
        ({}, {"api_key_file": "none"}),
        ({"port": 1, "host": "::"}, {"port": "1", "host": "::"}),
        ({"uds": "/a", "port": 1}, {}),  # PORT is the platform's
        ({"uds": "/a", "uds_mode": "0600"}, {"uds": "/a"}),
        ({"uds": "/a", "host": "::", "metrics_port": 8080}, {"host": "::"}),
        ({"port": 0}, {"port": "0"}),
        ({"port": 0, "metrics_port": 9}, {"port": "0"}),
        ({"ssl_certfile": "/a"}, {}),
        ({"ssl_certfile": "/a", "ssl_keyfile": "/b", "ssl_password_file": "/c", "uds": "/d"}, {}),
        ({"max_connections_per_client": 10, "max_connections": 10}, {}),
        ({"min_content_rate": 0}, {}),
    ],
)
def test_what_does_is_not(said: dict[str, Any], arguments: dict[str, str]) -> None:
    check_combinations(Config(**said), arguments)
