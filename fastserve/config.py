"""Every option, declared once: its default and reason, flag, environment variable, place in config.yaml.

`Config` is frozen. `resolve` builds it: command line > environment > `runtime` in config.yaml > default.
Reads no files; `model/directory.py` does. Called by `cli.py`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fastserve.errors import SetupError
from fastserve.options import (
    KIB,
    MIB,
    PREFIX,
    Option,
    did_you_mean,
    file_mode,
    one_of,
    option,
    optional,
    origins,
    path,
    seconds,
    several_of,
    size,
    switch,
    text,
    whole_number,
)

# What Kubernetes puts into every container beside a Service of the name `fastserve`.
KUBERNETES_VARIABLE: Final = re.compile(r"FASTSERVE_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_\w+)")

# What it puts into every container, and the delay that then holds if none is said (see drain_delay_s).
KUBERNETES_HOST: Final = "KUBERNETES_SERVICE_HOST"
KUBERNETES_DRAIN_DELAY_S: Final = 5.0
# The API keys themselves, which are to stand neither on a command line nor in a Config; see `endpoints/keys.py`.
KEYS_VARIABLE: Final = PREFIX + "API_KEYS"

# An async `load` is never awaited; HTTPException loses its header fields; a failed load exits 0; the OpenAI-style
# methods get their input by predict's annotation; liveness waits while 40 plain calls run.
QUIRKS: Final = (
    "unawaited-load",
    "lost-headers",
    "exit-zero",
    "predict-annotations",
    "waiting-liveness",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of the server, with the reason for its default."""

    # Loopback: a model is not open to a network until somebody says so.
    host: str = option("127.0.0.1", "--host", "address to listen on", text, metavar="HOST")
    # Truss's port. PORT is what container platforms set, INFERENCE_SERVER_PORT what Truss reads.
    port: int = option(
        8080,
        "--port",
        "port to listen on; 0 takes a free one and prints it",
        whole_number(0, 65535),
        environment=("PORT", "INFERENCE_SERVER_PORT"),
    )
    # Truss's default: a model is not assumed to be safe to run twice at once. 4096 threads are more than any
    # machine this is meant for can schedule.
    predict_concurrency: int = option(
        1,
        "--concurrency",
        "how many predicts may run at once",
        whole_number(1, 4096),
        yaml="predict_concurrency",
    )
    # Python's own is 5 ms. With a predict that never lets go of the GIL a probe takes p99 4.5 to 4.8 ms at 0.5 ms and
    # 5.0 to 5.4 at 1 ms, pinned to one core; throughput at 64 connections is the same at both (0.2 ms costs a third).
    switch_interval_s: float = option(
        0.0005,
        "--switch-interval",
        "how long a thread may hold the GIL while another waits, in seconds",
        seconds(0.00001, 1),
        metavar="S",
    )
    # Truss's value. A queued predict may take long, and whoever sent SIGTERM has a limit of their own.
    graceful_timeout_s: float = option(
        3600.0,
        "--timeout-graceful-shutdown",
        "how long requests in flight may take to finish after SIGTERM",
        seconds(0, 86400),
        metavar="S",
    )
    # Nobody need be told of a server that stands alone. Kubernetes takes a pod's address away while the pod is being
    # stopped: a second or two later all who send requests know; 5 s leave 25 of the 30 that a pod is given.
    drain_delay_s: float = option(
        0.0,
        "--drain-delay",
        "how long to go on accepting after SIGTERM, with readiness 503 and Connection: close; in Kubernetes 5 s",
        seconds(0, 3600),
        metavar="S",
    )

    # A thousand clients that send one request after another are all let in. Who comes behind more than that is told
    # when to come back.
    max_queue: int = option(
        1024,
        "--max-queue",
        "requests that may wait, of each method, beyond those that the predict slots take (429 above)",
        whole_number(0, 1_000_000),
        group="limits",
    )
    # As much as all streams may hold. Of content over 256 KiB: a queue full of smaller ones is no larger than this.
    max_queue_bytes: int = option(
        256 * MIB,
        "--max-queue-bytes",
        "large content that a method's requests, at work or waiting, may hold together (429 above)",
        size(0, 1 << 40),
        metavar="BYTES",
        group="limits",
    )
    # 429 says that it is about the load. Load balancers that take a server out only for a 503 want that.
    overload_status: str = option(
        "429",
        "--overload-status",
        "what who cannot be let in is answered: 429 or 503, with Retry-After",
        one_of("429", "503"),
        metavar="CODE",
        group="limits",
    )
    # As long as the graceful shutdown lets a request go on: nobody waits for an answer for longer than an hour.
    timeout_s: float = option(
        3600.0,
        "--timeout",
        "how long a request may wait and run before it is answered with 504; 0 is for ever",
        seconds(0, 86400),
        metavar="S",
        group="timeouts",
    )

    # How long a predict may rightly take only its author knows: minutes for a video, a second for a score. Readiness
    # must not turn on a guess.
    predict_watchdog_s: float = option(
        0.0,
        "--predict-watchdog",
        "how long a predict may run, or its stream make no headway, before it is taken to be stuck: its stack is "
        "logged, and readiness is 503 until it goes on; 0: for ever",
        seconds(0, 86400),
        metavar="S",
        yaml="predict_watchdog",
    )
    # One may be an input that is too large, two that same input sent again; three in a row, with what can be freed
    # freed in between and nothing succeeding, is a process that will not recover by itself.
    oom_limit: int = option(
        3,
        "--oom-limit",
        "how many times in a row the model may run out of memory before readiness turns 503; 0: any number",
        whole_number(0, 1000),
    )
    # Only a supervisor makes it a cure.
    exit_on_oom: bool = option(
        False,
        "--exit-on-oom",
        "at the --oom-limit end with status 1, for a supervisor to start the server anew",
        switch,
    )
    # A model may need autograd, or change tensors that it made in load, which this mode forbids.
    inference_mode: bool = option(
        False,
        "--inference-mode",
        "run predict in torch.inference_mode(); not for an async one",
        switch,
        yaml="inference_mode",
    )

    # For development: watching costs some time, and two versions of a model share the memory while one takes over.
    reload: bool = option(
        False,
        "--reload",
        "load the model anew when its files change, while the old one goes on serving",
        switch,
    )

    # Where Truss's platform mounts secrets, one file each. On a laptop nobody can write there.
    secrets_path: str = option(
        "/secrets",
        "--secrets-path",
        "directory with a file for each secret of config.yaml",
        path,
        metavar="DIR",
    )
    # Where Truss's platform mounts what it may change while the model runs: here the file `environment`.
    dynamic_config_path: str = option(
        "/etc/b10_dynamic_config",
        "--dynamic-config-path",
        "directory with the file `environment`, the JSON that setup_environment is given",
        path,
        metavar="DIR",
    )
    # Where Truss's platform mounts bptr/ and static-bptr/: the lists of weights to download.
    manifest_root: str = option(
        "/",
        "--manifest-root",
        "directory with bptr/ or static-bptr/, if there is a manifest of weights, which is refused",
        path,
        metavar="DIR",
    )

    # For a proxy on the same machine: who may connect is then what the file system says.
    uds: str = option(
        "",
        "--uds",
        "Unix socket to listen on, instead of an address",
        optional(path),
        metavar="PATH",
        group="entry",
    )
    # Owner and group: a proxy runs as a user of its own, who joins the group. Others on the machine stay out.
    uds_mode: str = option(
        "0660",
        "--uds-mode",
        "permissions of the Unix socket, in octal",
        file_mode,
        metavar="MODE",
        group="entry",
    )
    # Who may ask the model may as a rule see how it fares. Who does not want that says where the page is instead.
    metrics_port: int = option(
        0,
        "--metrics-port",
        "port for /metrics and the probes alone, without keys or TLS, and no /metrics on the other; 0: none",
        whole_number(0, 65535),
        group="entry",
    )
    # Without a word as open as the address it listens on, which is loopback.
    api_key_file: str = option(
        "",
        "--api-key-file",
        f"file with the API keys that requests must bring, one a line, read anew on SIGHUP; {KEYS_VARIABLE} may hold "
        "more, with commas between",
        optional(path),
        metavar="FILE",
        group="entry",
    )
    ssl_certfile: str = option(
        "",
        "--ssl-certfile",
        "certificate chain in PEM: TLS is spoken, and no plain HTTP; read anew on SIGHUP",
        optional(path),
        metavar="FILE",
        group="entry",
    )
    ssl_keyfile: str = option(
        "",
        "--ssl-keyfile",
        "private key of the certificate in PEM, if it is not in the same file",
        optional(path),
        metavar="FILE",
        group="entry",
    )
    # A file, because a command line is there for everybody on the machine to read.
    ssl_password_file: str = option(
        "",
        "--ssl-password-file",
        "file whose first line is the password of an encrypted private key",
        optional(path),
        metavar="FILE",
        group="entry",
    )
    # Browsers let no other page read an answer unless the server says so.
    cors_origins: tuple[str, ...] = option(
        (),
        "--cors-origin",
        "origins whose pages may call the server from a browser (with commas between), or *",
        origins,
        metavar="ORIGINS",
        group="entry",
    )
    # Behind a proxy or NAT all clients have one address: only who knows that there is none can set a limit.
    max_connections_per_client: int = option(
        0,
        "--max-connections-per-client",
        "most connections at a time from one address, further ones are closed; 0: no limit",
        whole_number(0, 1_000_000),
        group="entry",
    )

    # Images and small tensors fit; a client that sends more by mistake is told so before it has sent it.
    max_content_bytes: int = option(
        100 * MIB,
        "--max-request-size",
        "largest content of a request, in bytes (413 above)",
        size(0, 1 << 40),
        metavar="BYTES",
        group="limits",
    )
    # nginx's and Apache's limit for a request line is 8 KiB: what passes them passes here.
    max_request_line_bytes: int = option(
        8 * KIB,
        "--max-request-line",
        "longest request line, in bytes (414 above)",
        size(64, MIB),
        metavar="BYTES",
        group="limits",
    )
    # nginx takes 4 x 8 KiB of header fields; cookies and tokens of real clients fit.
    max_header_bytes: int = option(
        32 * KIB,
        "--max-header-size",
        "largest header section with its request line, in bytes (431 above)",
        size(128, 16 * MIB),
        metavar="BYTES",
        group="limits",
    )
    # Apache's LimitRequestFields. SDKs send about 20.
    max_header_fields: int = option(
        100,
        "--max-header-fields",
        "most header fields in a request (431 above)",
        whole_number(1, 10000),
        group="limits",
    )
    # What one stream may run ahead of its reader: seconds of text for any language model, so that the model is
    # done and free while the client still reads.
    stream_buffer_bytes: int = option(
        32 * MIB,
        "--stream-buffer",
        "unread bytes that one stream may hold before its generator waits",
        size(KIB, 1 << 40),
        metavar="BYTES",
        group="limits",
    )
    # All streams together: eight full ones, which the smallest edge box can still hold.
    stream_buffers_bytes: int = option(
        256 * MIB,
        "--stream-buffers",
        "unread bytes that all streams together may hold",
        size(KIB, 1 << 40),
        metavar="BYTES",
        group="limits",
    )
    # 20 MiB of idle connections: more clients than one model can serve, and what its descriptors may come to.
    max_connections: int = option(
        10_000,
        "--max-connections",
        "most connections at a time; further ones wait to be accepted",
        whole_number(1, 1_000_000),
        group="limits",
    )

    # Longer than the 60 s of the usual proxies, so that it is they who close; or they see resets.
    keep_alive_timeout_s: float = option(
        75.0,
        "--timeout-keep-alive",
        "how long an idle connection is kept",
        seconds(0.1, 86400),
        metavar="S",
        group="timeouts",
    )
    # A header section is one packet for most clients; 10 s passes the worst mobile link and starves slowloris.
    header_timeout_s: float = option(
        10.0,
        "--timeout-header",
        "how long a header section may take from its first byte (408)",
        seconds(0.1, 3600),
        metavar="S",
        group="timeouts",
    )
    # Together with min_content_rate: content may start slowly for as long as a header section may take.
    content_grace_s: float = option(
        10.0,
        "--timeout-content-grace",
        "how long content may arrive at any rate",
        seconds(0.1, 3600),
        metavar="S",
        group="timeouts",
    )
    # 1 KiB/s: slower than any modem in use, yet 100 MiB promised and never sent ends soon.
    min_content_rate: int = option(
        KIB,
        "--min-content-rate",
        "bytes per second that content must reach on average after the grace (408)",
        size(0, 1 << 30),
        metavar="BYTES",
        group="timeouts",
    )
    # A reader that takes nothing for a minute is gone or stuck; proxies give up at 60 s too.
    stall_timeout_s: float = option(
        60.0,
        "--timeout-stall",
        "how long a client may take nothing of what waits for it",
        seconds(0.1, 86400),
        metavar="S",
        group="timeouts",
    )
    # Truss's default and name.
    streaming_read_timeout_s: float = option(
        60.0,
        "--streaming-read-timeout",
        "longest gap between two chunks of a generator",
        seconds(0.1, 86400),
        metavar="S",
        group="timeouts",
        yaml="streaming_read_timeout",
    )
    # uvicorn's two, which Truss leaves as they are unless config.yaml says otherwise: below the 60 s after which the
    # usual proxies close what is idle.
    ping_interval_s: float = option(
        20.0,
        "--ws-ping-interval",
        "seconds between two pings to a WebSocket client",
        seconds(0.1, 86400),
        metavar="S",
        group="timeouts",
        yaml="transport.ping_interval_seconds",
    )
    ping_timeout_s: float = option(
        20.0,
        "--ws-ping-timeout",
        "how long a WebSocket client may say nothing after a ping",
        seconds(0.1, 86400),
        metavar="S",
        group="timeouts",
        yaml="transport.ping_timeout_seconds",
    )

    # A cut stream must not look whole (RFC 9112 section 8). `end` is what Truss does.
    on_stream_error: str = option(
        "abort",
        "--on-stream-error",
        "a generator that fails midway: `abort` cuts the connection, `end` ends the stream as if complete",
        one_of("abort", "end"),
        metavar="HOW",
        yaml="on_stream_error",
    )
    # What nobody waits for is stopped where that is safe; a coroutine cut in the middle may leave its work half done.
    cancel_on_disconnect: str = option(
        "streams",
        "--cancel-on-disconnect",
        "what ends when a client leaves: `streams` (and what is queued), `all` (coroutines too) or `none`",
        one_of("streams", "all", "none"),
        metavar="WHAT",
        yaml="cancel_on_disconnect",
    )
    # orjson is ten times faster than the standard library. Its answers differ from Truss's in space, escapes and
    # NaN (null), its input in integers over 64 bits (floats).
    json: str = option(
        "fast",
        "--json",
        "`fast` (orjson), or `python`: the standard library as in Truss, with NaN and integers of any size",
        one_of("fast", "python"),
        metavar="HOW",
        yaml="json",
    )
    # An annotation is there to be kept to. But Truss looks at pydantic models alone, and a model written for it that
    # says `list[Item]` makes the items itself.
    typed_inputs: str = option(
        "direct",
        "--typed-inputs",
        "what inputs are checked against: `pydantic` models as in Truss; `direct`: TypedDicts and dataclasses too; "
        "`all`: also what contains one, such as list[Item]",
        one_of("pydantic", "direct", "all"),
        metavar="WHICH",
        yaml="typed_inputs",
    )
    # What Truss does and nobody can want, for who depends on it all the same.
    truss_quirks: tuple[str, ...] = option(
        (),
        "--truss-quirks",
        f"habits of Truss's to take on: {', '.join(QUIRKS)} (with commas between), all or none",
        several_of(*QUIRKS),
        metavar="NAMES",
        yaml="truss_quirks",
    )
    log_level: str = option(
        "info",
        "--log-level",
        "debug, info, warning, error or critical",
        one_of("debug", "info", "warning", "error", "critical"),
        metavar="LEVEL",
        group="logs",
    )
    # An id in reach of all code that works for a request costs 0.3 of its CPU time, which only those should pay who
    # read them. What goes wrong is named anyway: its line in the log and its answer have the same id.
    request_ids: str = option(
        "given",
        "--request-ids",
        "`given`: requests that bring an id keep it, in the answer and all log lines; `traced`, also if the model "
        "imports trace_context: those with a traceparent get one; `all`: all others too",
        one_of("given", "traced", "all"),
        metavar="WHICH",
        group="logs",
    )
    # It tells strangers how the server fares, so it is for who asks for it or wants it on all answers.
    server_timing: bool = option(
        False,
        "--server-timing",
        "tell in every answer where its time went, not only in those to who asks for it",
        switch,
        group="logs",
    )
    # What is slow is each model's own to say.
    slow_request_s: float = option(
        0.0,
        "--log-slow",
        "log each request that takes longer, with where its time went; 0 logs none",
        seconds(0, 86400),
        metavar="S",
        group="logs",
    )
    # A line costs half of what the request does; proxies and load balancers write their own.
    access_log: bool = option(
        False,
        "--access-log",
        "one line on stdout for each request answered, but for probes and scrapes",
        switch,
        group="logs",
    )
    # Lines for a person at a terminal, JSON for whatever collects logs elsewhere.
    log_format: str = option(
        "auto",
        "--log-format",
        "text, json, or auto: text on a terminal, JSON elsewhere",
        one_of("auto", "text", "json"),
        metavar="FORMAT",
        group="logs",
    )


OPTIONS: Final[dict[str, Option]] = {f.name: f.metadata["option"] for f in dataclasses.fields(Config)}

# Keys of Truss's `runtime` that this server reads elsewhere, or that only Truss's platform and build use.
TRUSS_RUNTIME_KEYS: Final = frozenset(
    {
        "batching",  # not Truss's: model/batching.py
        "egress_restrictions",
        "enable_debug_logs",
        "enable_tracing_data",
        "health_checks",
        "is_websocket_endpoint",
        "num_workers",
        "oidc",
        "predict_concurrency",
        "remote_ssh",
        "request_backpressure",
        "streaming_read_timeout",
        "transport",
        "truss_server_version_override",
    }
)

TRUSS_TRANSPORT_KEYS: Final = frozenset({"kind", "ping_interval_seconds", "ping_timeout_seconds"})


def resolve(
    arguments: Mapping[str, str],
    environ: Mapping[str, str],
    runtime: Mapping[str, object],
    where: Callable[[str], str] = lambda key: f"config.yaml: runtime.{key}",
) -> Config:
    """Build the Config: arguments (field name to text) > environment > `runtime` of config.yaml > default.

    where: names the place of a key under `runtime`, with file and line, for messages.
    Raises SetupError for an unknown name or a value of the wrong kind, wherever it stands.
    """
    values: dict[str, Any] = {}
    check_environment(environ)
    known = TRUSS_RUNTIME_KEYS | {o.yaml for o in OPTIONS.values() if o.yaml is not None}
    for key in runtime:
        if key not in known:
            raise SetupError(f"{where(str(key))}: no such setting{did_you_mean(str(key), known)}")
    transport = runtime.get("transport")
    for key in transport if isinstance(transport, Mapping) else ():
        if key not in TRUSS_TRANSPORT_KEYS:
            hint = did_you_mean(str(key), TRUSS_TRANSPORT_KEYS)
            raise SetupError(f"{where(f'transport.{key}')}: no such setting{hint}")
    if runtime.get("enable_debug_logs") is True:
        values["log_level"] = "debug"
    if environ.get(KUBERNETES_HOST):
        values["drain_delay_s"] = KUBERNETES_DRAIN_DELAY_S
    for name, declared in OPTIONS.items():
        for source, value in _candidates(name, declared, arguments, environ, runtime, where):
            try:
                values[name] = declared.parse(value)
            except ValueError as error:
                raise SetupError(f"{source} {error}, not {value!r}") from None
            break
    config = Config(**values)
    if config.exit_on_oom and not config.oom_limit:
        raise SetupError("--exit-on-oom needs a limit to end at: give an --oom-limit other than 0")
    return config


def said(
    arguments: Mapping[str, str],
    environ: Mapping[str, str],
    runtime: Mapping[str, object],
    where: Callable[[str], str],
) -> Iterable[str]:
    """Each option that is not left at its default, as `--port 80 (PORT)`: what holds, and where it was said.

    The arguments are those of `resolve`, which has taken them.
    """
    for name, declared in OPTIONS.items():
        for source, value in _candidates(name, declared, arguments, environ, runtime, where):
            yield f"{declared.flag} {value} ({source})"
            break


def _candidates(
    name: str,
    declared: Option,
    arguments: Mapping[str, str],
    environ: Mapping[str, str],
    runtime: Mapping[str, object],
    where: Callable[[str], str],
) -> Iterable[tuple[str, object]]:
    """(where it was said, value) for one option, the strongest first."""
    if name in arguments:
        yield declared.flag, arguments[name]
    for variable in (declared.variable, *declared.environment):
        value = environ.get(variable)
        if value and not value.startswith("tcp://"):  # Kubernetes' again
            yield variable, value
    if declared.yaml is not None and (said := _look_up(declared.yaml, runtime)) is not None:
        yield where(declared.yaml), said


def _look_up(name: str, runtime: Mapping[str, object]) -> object:
    """What is said under `outer.inner`; None without."""
    outer, _, inner = name.partition(".")
    said = runtime.get(outer)
    if not inner:
        return said
    return said.get(inner) if isinstance(said, Mapping) else None


def check_environment(environ: Mapping[str, str]) -> None:
    """Refuse FASTSERVE_ variables that mean nothing: a misspelt one would be ignored in silence."""
    known = {o.variable for o in OPTIONS.values()} | {KEYS_VARIABLE}
    for variable in environ:
        if KUBERNETES_VARIABLE.fullmatch(variable):
            continue
        if variable.startswith(PREFIX) and variable not in known:
            raise SetupError(f"{variable}: no such option{did_you_mean(variable, known)}")
