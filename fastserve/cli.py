"""argv to Config, and the process's exit status: 0 stopped as asked, 1 the model failed for good, 2 wrong set-up.

Every mistake on the command line, in the environment or in the directory ends here in one line.
"""

from __future__ import annotations

import argparse
import functools
import io
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import fastserve
from fastserve.combinations import check_combinations
from fastserve.config import OPTIONS, Config, resolve, said
from fastserve.errors import SetupError
from fastserve.logs import set_up_logs
from fastserve.model.batching import read_batching
from fastserve.model.directory import ModelDirectory, read_directory
from fastserve.model.refusals import check_supported, warn_of_ignored
from fastserve.options import did_you_mean

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT

STDERR: Final = 2

_logger: Final = logging.getLogger("fastserve")

_DEFAULTS: Final = Config()
# What other servers have as flags, and is not to be taken for the flag of a name like it.
_BATCHING: Final = "it is the model's: runtime.batching in config.yaml"
_ELSEWHERE: Final = {
    "--workers": "one process serves one model: start several behind a proxy, or see --concurrency",
    "--batch-size": _BATCHING,
    "--max-batch-size": _BATCHING,
}
_GROUPS: Final = {
    "serving": "serving",
    "entry": "who may come in",
    "limits": "limits (what is refused, and what is held in memory)",
    "timeouts": "timeouts",
    "logs": "logs",
}


class _Parser(argparse.ArgumentParser):
    """Its mistakes become SetupError, with the nearest valid flag."""

    def error(self, message: str) -> NoReturn:
        raise SetupError(f"{message}; see fastserve --help")


def _open_standard_descriptors() -> None:
    """Those that are closed lead nowhere; else a socket would get their number, and what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:  # the lowest that is free
        pass
    os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> int:
    """The `fastserve` command. Returns the exit status."""
    _open_standard_descriptors()
    try:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        environ = dict(os.environ)  # before config.yaml changes it
        directory, config = read_set_up(Path(arguments.pop("directory")), arguments, environ)
        set_up_logs(config.log_level, config.log_format)
        for words in said(arguments, environ, directory.runtime, functools.partial(directory.where, "runtime")):
            _logger.debug("set: %s", words)
        warn_of_ignored(directory)
        reread = functools.partial(read_set_up, directory.path, arguments, environ)
        from fastserve.server import (
            run,  # after the checks: a mistake is told before uvloop and the rest are imported
        )

        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # what a model prints is seen when it is printed
        return run(directory, config, reread)
    except KeyboardInterrupt:  # before the server takes signals itself
        return EXIT_INTERRUPTED
    except SetupError as error:
        if logging.getLogger().handlers:
            _logger.error("%s", error)
        else:
            print(f"fastserve: error: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE


def read_set_up(
    path: Path, arguments: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[ModelDirectory, Config]:
    """The model directory at `path` and the Config that holds with it. Raises SetupError."""
    directory = read_directory(path)
    config = resolve(arguments, environ, directory.runtime, functools.partial(directory.where, "runtime"))
    check_combinations(config, arguments)
    check_supported(directory, config)
    read_batching(directory)  # which raises what the version would that is loaded later
    directory.config["runtime"]["predict_concurrency"] = config.predict_concurrency
    return directory, config


def parse_arguments(argv: Sequence[str]) -> dict[str, str]:
    """The options that were given, by their field in Config, as text; and `directory`. Raises SetupError."""
    parser = make_parser()
    if "" in argv:  # an unset variable in a script: it would mean the present directory
        parser.error("an argument is empty; give a model directory")
    known, unknown = parser.parse_known_args(argv)
    flags = [flag for option in OPTIONS.values() for flag in (option.flag, option.off_flag) if flag]
    flags += ["--help", "--version"]
    for word in unknown:
        flag = word.partition("=")[0]
        what = "no such option" if word.startswith("-") else "one model directory is enough"
        parser.error(f"{flag}: {what}{_hint(flag, flags)}")
    return {name: value for name, value in vars(known).items() if value is not None}


def _hint(flag: str, flags: Sequence[str]) -> str:
    if not flag.startswith("-"):
        return ""
    return f" ({_ELSEWHERE[flag]})" if flag in _ELSEWHERE else did_you_mean(flag, flags)


def make_parser() -> argparse.ArgumentParser:
    """The command line, from the options as config.py declares them."""
    parser = _Parser(
        prog="fastserve",
        description="Put the model in DIR (config.yaml, model/model.py with a class Model) behind HTTP.",
        epilog=(
            "Each option can also be set as FASTSERVE_<OPTION>, such as FASTSERVE_PORT=80; PORT and "
            "INFERENCE_SERVER_PORT are read too. Flags win over the environment, that over config.yaml. One that "
            "takes no value is on or off there (FASTSERVE_RELOAD=on), and has an opposite: --reload, --no-reload."
        ),
        usage="fastserve DIR [--port N] [--host HOST] [--concurrency N] [options]",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", help="the model directory")
    parser.add_argument("--version", action="version", version=f"fastserve {fastserve.__version__}")
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
    for name, option in OPTIONS.items():
        group, help = groups[option.group], f"{option.help} [{_show(getattr(_DEFAULTS, name), option.metavar)}]"
        if option.off_flag is None:
            group.add_argument(option.flag, dest=name, metavar=option.metavar, help=help)
        else:
            group.add_argument(option.flag, dest=name, action="store_const", const="on", help=help)
            group.add_argument(option.off_flag, dest=name, action="store_const", const="off", help=argparse.SUPPRESS)
    return parser


def _show(default: object, metavar: str) -> str:
    """A default as --help shows it, and the option takes it: 32M rather than 33554432 bytes."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, int) and metavar == "BYTES":
        return f"{default >> 20}M" if default % (1 << 20) == 0 else f"{default >> 10}k"
    if isinstance(default, float):
        return f"{default:g}"
    return "none" if default in ((), "") else str(default)
