"""Where a setting comes from, what it takes, and what is refused: over every option there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastserve.config import OPTIONS, QUIRKS, TRUSS_RUNTIME_KEYS, Config, check_environment, resolve
from fastserve.errors import SetupError
from fastserve.model.directory import DEFAULTS
from fastserve.options import MIB, PREFIX, did_you_mean, one_of, seconds, size, text, whole_number

# For each option: values it takes with what they become, and values it refuses.
EDGES: dict[str, tuple[dict[Any, Any], list[Any]]] = {
    "host": ({"0.0.0.0": "0.0.0.0", " ::1 ": "::1", "localhost": "localhost"}, [" ", "\t"]),
    "port": ({"0": 0, "1": 1, "65535": 65535}, ["-1", "65536", "http", "80.0"]),
    "predict_concurrency": ({"1": 1, "4096": 4096}, ["0", "4097", "-1", "many"]),
    "switch_interval_s": ({"0.00001": 0.00001, "1": 1.0}, ["0", "0.000001", "1.1", "fast"]),
    "drain_delay_s": ({"0": 0.0, "2.5": 2.5, "3600": 3600.0}, ["-1", "3601", "nan", "soon"]),
    "graceful_timeout_s": ({"0": 0.0, "86400": 86400.0}, ["-1", "86401", "nan", "inf"]),
    "predict_watchdog_s": ({"0": 0.0, "0.5": 0.5, "86400": 86400.0}, ["-1", "86401", "nan"]),
    "oom_limit": ({"0": 0, "1": 1, "1000": 1000}, ["-1", "1001", "1.5"]),
    "exit_on_oom": ({"on": True, "no": False}, ["3", "maybe"]),
    "inference_mode": ({"on": True, "true": True, "False": False}, ["torch", "2"]),
    "reload": (
        {
            "on": True,
            "ON": True,
            "1": True,
            "true": True,
            "yes": True,
            "off": False,
            "0": False,
            "False": False,
            "no": False,
        },
        ["maybe", "2", "-1"],
    ),
    "secrets_path": ({"/run/secrets": "/run/secrets", "a/b": str(Path.cwd() / "a/b")}, [" ", "a\0b"]),
    "dynamic_config_path": ({"/tmp": "/tmp", "~": str(Path.home())}, [" ", "~nobody-of-that-name/x"]),
    "manifest_root": ({"/mnt": "/mnt", ".": str(Path.cwd())}, [" "]),
    "uds": ({"/run/x.sock": "/run/x.sock", "a": str(Path.cwd() / "a"), "none": ""}, [" ", "a\0b"]),
    "uds_mode": ({"600": "0600", "0777": "0777", "0000": "0000"}, ["660 ", "0o660", "1660", "888", "66"]),
    "metrics_port": ({"0": 0, "1": 1, "65535": 65535}, ["-1", "65536", "none"]),
    "api_key_file": ({"/run/keys": "/run/keys", "none": ""}, [" "]),
    "ssl_certfile": ({"/run/tls.crt": "/run/tls.crt", "none": ""}, [" "]),
    "ssl_keyfile": ({"/run/tls.key": "/run/tls.key", "none": ""}, [" "]),
    "ssl_password_file": ({"/run/password": "/run/password", "none": ""}, [" "]),
    "cors_origins": (
        {
            "https://A.example, http://[::1]:3000,https://a.example": ("https://a.example", "http://[::1]:3000"),
            "*": ("*",),
            "NONE": (),
        },
        ["a.example", "https://a.example/", "*,https://a.example", "null", "https://a b", "https://", ",", "none,*"],
    ),
    "max_connections_per_client": ({"0": 0, "1": 1, "1000000": 1000000}, ["-1", "1000001", "1k"]),
    "max_content_bytes": ({"0": 0, "1k": 1024, "1024G": 1 << 40}, ["-1", "1025G", "1.5M", ""]),
    "max_request_line_bytes": ({"64": 64, "1M": MIB}, ["63", "1048577"]),
    "max_header_bytes": ({"128": 128, "16M": 16 * MIB}, ["127", "17M"]),
    "max_header_fields": ({"1": 1, "10000": 10000}, ["0", "10001", "1k"]),
    "max_connections": ({"1": 1, "1000000": 1000000}, ["0", "1000001", "1k"]),
    "max_queue": ({"0": 0, "1000000": 1_000_000}, ["-1", "1000001", "1k"]),
    "max_queue_bytes": ({"0": 0, "1024G": 1 << 40}, ["-1", "1025G"]),
    "overload_status": ({"429": "429", "503": "503"}, ["500", "4290"]),
    "timeout_s": ({"0": 0.0, "0.5": 0.5, "86400": 86400.0}, ["-1", "86401", "nan"]),
    "stream_buffer_bytes": ({"1k": 1024, "1024G": 1 << 40}, ["1023", "1025G"]),
    "stream_buffers_bytes": ({"1k": 1024, "1024G": 1 << 40}, ["1023", "1025G"]),
    "keep_alive_timeout_s": ({"0.1": 0.1, "86400": 86400.0}, ["0", "0.09", "86401"]),
    "header_timeout_s": ({"0.1": 0.1, "3600": 3600.0}, ["0", "3601"]),
    "content_grace_s": ({"0.1": 0.1, "3600": 3600.0}, ["0", "3601"]),
    "min_content_rate": ({"0": 0, "1k": 1024, "1G": 1 << 30}, ["-1", "2G"]),
    "stall_timeout_s": ({"0.1": 0.1, "86400": 86400.0}, ["0", "86401"]),
    "streaming_read_timeout_s": ({"0.1": 0.1, "86400": 86400.0}, ["0", "86401"]),
    "ping_interval_s": ({"0.1": 0.1, "86400": 86400.0}, ["0", "86401"]),
    "ping_timeout_s": ({"0.1": 0.1, "86400": 86400.0}, ["0", "86401"]),
    "on_stream_error": ({"abort": "abort", "END": "end"}, ["stop", " "]),
    "cancel_on_disconnect": ({"streams": "streams", "ALL": "all", "none": "none"}, ["queue", " "]),
    "json": ({"fast": "fast", "Python": "python"}, ["orjson"]),
    "typed_inputs": ({"all": "all", "pydantic": "pydantic", "direct": "direct"}, ["none"]),
    "truss_quirks": (
        {"exit-zero": ("exit-zero",), " lost-headers,UNAWAITED-load ": QUIRKS[:2], "all": QUIRKS, "none": ()},
        ["exit-one", "exit-zero,", ",", "all,none"],
    ),
    "request_ids": ({"given": "given", "Traced": "traced", "ALL": "all"}, ["none"]),
    "server_timing": ({"on": True, "no": False}, ["maybe"]),
    "slow_request_s": ({"0": 0.0, "2.5": 2.5, "86400": 86400.0}, ["-1", "86401"]),
    "access_log": ({"1": True, "on": True, "FALSE": False, "no": False}, ["maybe", "2"]),
    "log_level": ({"debug": "debug", "CRITICAL": "critical"}, ["loud", "warn"]),
    "log_format": ({"auto": "auto", "Text": "text", "json": "json"}, ["xml"]),
}
EVERY = list(OPTIONS)


def resolved(
    arguments: dict[str, str] | None = None,
    environ: dict[str, str] | None = None,
    runtime: dict[str, object] | None = None,
) -> Config:
    return resolve(arguments or {}, environ or {}, runtime or {})


def as_text(value: object) -> str:
    """A value as it is said on the command line."""
    return str(value) if value != () else "none"


def other_than_default(name: str) -> tuple[str, Any]:
    """A text the option takes, and what it becomes."""
    return next((said, value) for said, value in EDGES[name][0].items() if value != getattr(Config(), name))


# --- over every option ---


def test_every_option_is_in_the_table() -> None:
    assert set(EDGES) == set(OPTIONS) == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize("name", EVERY)
def test_every_default_is_valid_under_its_own_parser(name: str) -> None:
    default = getattr(Config(), name)
    for said in (default, as_text(default)):
        parsed = OPTIONS[name].parse(said)
        assert (parsed, type(parsed)) == (default, type(default))


@pytest.mark.parametrize("name", EVERY)
def test_every_option_takes_its_edges_and_refuses_what_is_beyond(name: str) -> None:
    taken, refused = EDGES[name]
    option = OPTIONS[name]
    for said, value in taken.items():
        parsed = getattr(resolved({name: said}), name)
        assert (parsed, type(parsed)) == (value, type(value))
    for said in refused:
        with pytest.raises(SetupError) as error:
            resolved({name: said})
        assert str(error.value).startswith(f"{option.flag} takes ")
        assert str(error.value).endswith(f", not {said!r}")


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=40)
@given(
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)
)
@example(value=10**400)
@example(value="\u00b2")
@example(value={"a": 1})
def test_whatever_is_said_is_taken_or_refused_in_words(name: str, value: Any) -> None:
    try:
        parsed = OPTIONS[name].parse(value)
    except ValueError as refused:
        assert str(refused).startswith("takes ")
    else:
        assert type(parsed) is type(getattr(Config(), name))


@pytest.mark.parametrize("name", EVERY)
def test_flags_variables_and_keys_have_their_usual_shape(name: str) -> None:
    option = OPTIONS[name]
    assert option.flag.startswith("--")
    assert option.flag == option.flag.lower()
    assert option.variable == "FASTSERVE_" + option.flag[2:].replace("-", "_").upper()
    assert option.help


def test_no_two_options_share_a_flag_or_a_variable() -> None:
    said = [o.flag for o in OPTIONS.values()]
    variables = [v for o in OPTIONS.values() for v in (o.variable, *o.environment)]
    assert len(set(said)) == len(said)
    assert len(set(variables)) == len(variables)


# --- where it comes from ---


def test_without_a_word_all_is_default() -> None:
    assert resolved() == Config()


@pytest.mark.parametrize("name", EVERY)
def test_every_option_can_be_said_by_flag_and_by_variable_and_the_flag_wins(name: str) -> None:
    said, value = other_than_default(name)
    default = getattr(Config(), name)
    variable = OPTIONS[name].variable
    assert getattr(resolved(environ={variable: said}), name) == value
    assert getattr(resolved({name: as_text(default)}, {variable: said}), name) == default
    assert getattr(resolved({name: said}, {variable: as_text(default)}), name) == value


@pytest.mark.parametrize("name", [name for name in EVERY if OPTIONS[name].yaml])
def test_the_environment_wins_over_the_file_and_the_file_over_the_default(name: str) -> None:
    key = OPTIONS[name].yaml
    assert key is not None
    _, value = other_than_default(name)
    default = getattr(Config(), name)

    def said(value: object) -> dict[str, object]:
        outer, _, inner = str(key).partition(".")
        return {outer: {inner: value} if inner else value}

    assert getattr(resolved(runtime=said(value)), name) == value
    assert getattr(resolved(environ={OPTIONS[name].variable: as_text(default)}, runtime=said(value)), name) == default
    assert getattr(resolved({name: as_text(default)}, runtime=said(value)), name) == default
    assert getattr(resolved(runtime=said(None)), name) == default


@pytest.mark.parametrize("transport", [None, "websocket", {}, {"kind": "websocket"}])
def test_a_transport_that_says_nothing_of_pings_leaves_the_defaults(transport: object) -> None:
    assert resolved(runtime={"transport": transport}) == Config()


def test_a_misspelt_key_of_the_transport_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        SetupError, match=r"transport.ping_interval: no such setting \(did you mean ping_interval_sec"
    ):
        resolved(runtime={"transport": {"kind": "websocket", "ping_interval": 5}})


def test_a_ping_that_is_no_number_of_seconds_is_refused_with_its_place() -> None:
    with pytest.raises(SetupError, match=r"config.yaml: runtime.transport.ping_interval_seconds takes a number"):
        resolved(runtime={"transport": {"ping_interval_seconds": "often"}})


def test_port_has_two_more_variables_the_platform_s_first() -> None:
    environ = {"FASTSERVE_PORT": "1", "PORT": "2", "INFERENCE_SERVER_PORT": "3"}
    for expected in (1, 2, 3):
        assert resolved(environ=environ).port == expected
        assert resolved({"port": "9"}, environ).port == 9
        del environ[next(iter(environ))]
    assert resolved(environ=environ).port == 8080


def test_a_variable_that_is_empty_is_not_set() -> None:
    assert resolved(environ={"FASTSERVE_PORT": "", "PORT": "", "FASTSERVE_HOST": ""}) == Config()


def test_a_weaker_source_is_not_looked_at() -> None:
    assert resolved({"port": "1"}, {"PORT": "none of your business"}).port == 1


def test_in_kubernetes_a_drain_is_delayed_unless_something_else_is_said() -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert resolved(environ=inside) == Config(drain_delay_s=5.0)
    assert resolved({"drain_delay_s": "0"}, inside).drain_delay_s == 0.0
    assert resolved(environ={**inside, "FASTSERVE_DRAIN_DELAY": "12"}).drain_delay_s == 12.0


def test_truss_switch_for_debug_logs_is_the_default_of_the_log_level() -> None:
    assert resolved(runtime={"enable_debug_logs": True}).log_level == "debug"
    assert resolved(runtime={"enable_debug_logs": False}).log_level == "info"
    assert resolved({"log_level": "error"}, runtime={"enable_debug_logs": True}).log_level == "error"
    assert (
        resolved(environ={"FASTSERVE_LOG_LEVEL": "error"}, runtime={"enable_debug_logs": True}).log_level == "error"
    )


def test_every_key_of_truss_runtime_is_known() -> None:
    assert set(DEFAULTS["runtime"]) <= TRUSS_RUNTIME_KEYS
    assert resolved(runtime=DEFAULTS["runtime"]) == Config()


# --- what is refused ---


@pytest.mark.parametrize(
    "arguments, environ, runtime, place",
    [
        ({"port": "x"}, {}, {}, "--port "),
        ({}, {"FASTSERVE_PORT": "x"}, {}, "FASTSERVE_PORT "),
        ({}, {"PORT": "x"}, {}, "PORT "),
        ({}, {"INFERENCE_SERVER_PORT": "x"}, {}, "INFERENCE_SERVER_PORT "),
        ({}, {}, {"predict_concurrency": "x"}, "config.yaml: runtime.predict_concurrency "),
        ({}, {}, {"predict_concurrency": True}, "config.yaml: runtime.predict_concurrency "),
        ({}, {}, {"predict_concurrency": 0}, "config.yaml: runtime.predict_concurrency "),
        ({}, {}, {"predict_concurrency": 2.0}, "config.yaml: runtime.predict_concurrency "),
        ({}, {}, {"streaming_read_timeout": False}, "config.yaml: runtime.streaming_read_timeout "),
    ],
)
def test_a_refusal_names_the_place_where_it_was_said(
    arguments: dict[str, str], environ: dict[str, str], runtime: dict[str, object], place: str
) -> None:
    with pytest.raises(SetupError) as refused:
        resolved(arguments, environ, runtime)
    assert str(refused.value).startswith(place + "takes ")


def test_the_place_of_a_key_is_asked_from_who_knows_the_file() -> None:
    for runtime in ({"predict_concurrency": 0}, {"predict_concurency": 1}):
        with pytest.raises(SetupError) as refused:
            resolve({}, {}, runtime, lambda key: f"here:7: {key}")
        assert str(refused.value).startswith(f"here:7: {next(iter(runtime))}")


@pytest.mark.parametrize(
    "key, hint",
    [
        ("predict_concurency", " (did you mean predict_concurrency?)"),
        ("on_stream_errors", " (did you mean on_stream_error?)"),
        ("colour", ""),
        (5, ""),
    ],
)
def test_a_key_that_means_nothing_is_refused_with_the_nearest(key: Any, hint: str) -> None:
    with pytest.raises(SetupError) as refused:
        resolved(runtime={key: 1})
    assert str(refused.value) == f"config.yaml: runtime.{key}: no such setting{hint}"


@pytest.mark.parametrize(
    "variable, hint",
    [
        ("FASTSERVE_PROT", " (did you mean FASTSERVE_PORT?)"),
        ("FASTSERVE_MAX_REQUEST_SIZES", " (did you mean FASTSERVE_MAX_REQUEST_SIZE?)"),
        ("FASTSERVE_", ""),
        ("FASTSERVE_API_KEY", " (did you mean FASTSERVE_API_KEYS?)"),
    ],
)
def test_a_variable_that_means_nothing_is_refused_with_the_nearest(variable: str, hint: str) -> None:
    with pytest.raises(SetupError) as refused:
        resolved(environ={"HOME": "/", variable: "1"})
    assert str(refused.value).startswith(f"{variable}: no such option{hint}")


def test_variables_of_others_are_none_of_ours() -> None:
    check_environment({"HOME": "/", "FASTAPI_PORT": "1", "fastserve_port": "1", "MY_FASTSERVE_PORT": "1"})
    check_environment({option.variable: "" for option in OPTIONS.values()})
    check_environment({"FASTSERVE_API_KEYS": "no option: a Config never holds a key"})
    assert all(option.variable.startswith(PREFIX) for option in OPTIONS.values())


def test_an_end_without_a_limit_to_end_at_is_refused() -> None:
    with pytest.raises(SetupError, match="--exit-on-oom needs a limit"):
        resolved({"exit_on_oom": "on"}, {"FASTSERVE_OOM_LIMIT": "0"})
    assert resolved({"exit_on_oom": "on"}).exit_on_oom
    assert resolved({"oom_limit": "0"}).oom_limit == 0


# --- the parsers ---


@pytest.mark.parametrize(
    "said, value",
    [
        ("0", 0),
        (1000, 1000),
        ("1000", 1000),
        ("64k", 65536),
        ("64K", 65536),
        ("64kb", 65536),
        ("64KiB", 65536),
        (" 2M ", 2 * MIB),
        ("1GiB", 1024 * MIB),
        ("7b", 7),
    ],
)
def test_a_size_may_have_a_unit(said: object, value: int) -> None:
    assert size(0, 1 << 40)(said) == value


@pytest.mark.parametrize("said", ["", "k", "1kk", "1.5M", "-1", "1T", "1 k", "\u00b2", True, 1.5, None, [1]])
def test_what_is_no_size_is_refused_with_examples(said: object) -> None:
    with pytest.raises(ValueError, match="takes a number of bytes such as 65536, 64k"):
        size(0, 1 << 40)(said)


def test_numbers_and_times_from_yaml_need_no_quotes() -> None:
    assert whole_number(1, 9)(5) == 5
    assert seconds(0, 9)(5) == 5.0
    assert seconds(0, 9)(2.5) == 2.5


@pytest.mark.parametrize("said", [True, None, [], 1.0, "1.0", ""])
def test_what_is_no_whole_number_is_refused_with_the_bounds(said: object) -> None:
    with pytest.raises(ValueError, match="takes a whole number from 1 to 9"):
        whole_number(1, 9)(said)


@pytest.mark.parametrize("said", [True, None, [], "soon", "", float("nan"), float("inf"), "1s"])
def test_what_is_no_time_is_refused_with_the_bounds(said: object) -> None:
    with pytest.raises(ValueError, match=r"takes a number of seconds from 0\.5 to 9"):
        seconds(0.5, 9)(said)


def test_a_choice_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"takes one of abort, end \(did you mean abort\?\)"):
        one_of("abort", "end")("abrot")


@pytest.mark.parametrize("said", [None, 5, "", " \n", ["x"]])
def test_a_text_must_be_one(said: object) -> None:
    with pytest.raises(ValueError, match="takes a text that is not empty"):
        text(said)


def test_did_you_mean_is_silent_if_nothing_is_near() -> None:
    assert did_you_mean("port", ["prot", "host"]) == " (did you mean prot?)"
    assert did_you_mean("port", ["colour"]) == ""
    assert did_you_mean("port", []) == ""


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]


def test_what_kubernetes_adds_beside_a_service_of_this_name_is_left_alone() -> None:
    kubernetes = {
        "FASTSERVE_SERVICE_HOST": "10.0.0.1",
        "FASTSERVE_SERVICE_PORT": "80",
        "FASTSERVE_SERVICE_PORT_HTTP": "80",
        "FASTSERVE_PORT": "tcp://10.0.0.1:80",
        "FASTSERVE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "FASTSERVE_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert resolve({}, kubernetes, {}) == Config()
    assert resolve({}, {**kubernetes, "PORT": "81"}, {}).port == 81
