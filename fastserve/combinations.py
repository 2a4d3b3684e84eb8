"""Options that contradict each other, or do nothing without another: refused at start, each in one message.

What a single option takes is its own parser's to say. Called by `cli.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastserve.config import OPTIONS, Config
from fastserve.errors import SetupError


def check_combinations(config: Config, arguments: Mapping[str, str]) -> None:
    """Raise SetupError for the first that makes no sense.

    arguments: what was said on the command line, by field of Config. A port in the environment is the platform's,
    and gives way to a Unix socket; one on the command line was meant.
    """
    if config.uds:
        for name in ("port",) if config.metrics_port else ("host", "port"):  # the metrics port is on that host
            if name in arguments:
                raise SetupError(f"{OPTIONS[name].flag} and --uds exclude each other: leave one out")
        if config.max_connections_per_client:
            raise SetupError("--max-connections-per-client: clients of a Unix socket have no address to count by")
    elif config.uds_mode != Config.uds_mode:
        raise SetupError("--uds-mode does nothing without --uds")
    if config.metrics_port and config.metrics_port == config.port and not config.uds:
        raise SetupError(f"--metrics-port {config.metrics_port} is --port, too: it takes one of its own")
    if arguments.get("api_key_file") == "":  # of a script's unset variable, say: the server would be open to all
        raise SetupError("--api-key-file needs the path of a file; leave it out for no keys")
    if not config.ssl_certfile:
        for name in ("ssl_keyfile", "ssl_password_file"):
            if getattr(config, name):
                raise SetupError(f"{OPTIONS[name].flag} does nothing without --ssl-certfile")
    if not config.min_content_rate and config.content_grace_s != Config.content_grace_s:
        raise SetupError("--timeout-content-grace does nothing with --min-content-rate 0")
    if config.max_connections_per_client > config.max_connections:
        raise SetupError(
            f"--max-connections-per-client {config.max_connections_per_client} does nothing: "
            f"--max-connections is {config.max_connections}"
        )
