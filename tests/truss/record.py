"""Writes answers.json: what Truss's own server answers to the questions of `cases.py`.

By hand, not in CI: `python -m tests.truss.record [MODEL ...]`, in an environment of its own with the `truss` package
(answers.json has the version) and what its templates/server/requirements.txt names, `python-multipart`, `websockets`.
The server runs as in its container, but on the loopback address and with what it keeps under / in a temporary folder.
Then `python -m tests.truss.compare --accept`, in the ordinary environment, puts our own answers beside.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.truss.cases import (
    AT_ONCE,
    DYNAMIC_CONFIG,
    ENVIRONMENT,
    MODELS,
    QUESTIONS,
    SECRET_FILES,
    Conversation,
    Question,
)
from tests.truss.exchange import Seen, wait_until_ready
from tests.truss.lives import lives, put

ANSWERS: Final = Path(__file__).with_name("answers.json")
PACKAGES: Final = ("truss", "fastapi", "starlette", "pydantic", "uvicorn", "numpy", "msgpack", "websockets")


def put_all(port: int, model: str) -> dict[str, Seen]:
    """Ask the server on `port` all that is asked about `model`."""
    questions = QUESTIONS[model]
    with ThreadPoolExecutor(len(questions) if model in AT_ONCE else 1) as pool:
        return dict(zip(questions, pool.map(functools.partial(put, port), questions.values()), strict=True))


def make_app(model: Path, root: Path, dynamic_config: Mapping[str, str]) -> Path:
    """The folder that Truss's image has as /app, with the model's files, and what the image has beside it."""
    import truss
    import yaml
    from truss.base.truss_config import TrussConfig

    templates = Path(truss.__file__).parent / "templates"
    app = root / "app"
    shutil.copytree(templates / "server", app)
    shutil.copytree(templates / "shared", app / "_truss_shared")
    shutil.copytree(model, app, dirs_exist_ok=True)
    config = TrussConfig.from_yaml(model / "config.yaml").to_dict(verbose=True)
    (app / "config.yaml").write_text(yaml.safe_dump(config))
    for folder, files in (("secrets", SECRET_FILES), ("b10", dynamic_config)):
        (root / folder).mkdir()
        for name, content in files.items():
            (root / folder / name).write_text(content)
    _replace(app / "truss_server.py", 'host="0.0.0.0"', 'host="127.0.0.1"')
    _replace(app / "model_wrapper.py", 'Path("/packages")', f'Path("{app / "packages"}")')
    _replace(app / "_truss_shared" / "secrets_resolver.py", '"/secrets"', f'"{root / "secrets"}"')
    _replace(app / "_truss_shared" / "dynamic_config_resolver.py", '"/etc/b10_dynamic_config"', f'"{root / "b10"}"')
    return app


def _replace(file: Path, old: str, new: str) -> None:
    source = file.read_text()
    assert source.count(old) == 1, (file, old)
    file.write_text(source.replace(old, new))


@contextlib.contextmanager
def truss_server(
    model: Path, environment: Mapping[str, str], dynamic_config: Mapping[str, str] | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes], Callable[[], str]]]:
    """Truss's server with `model`: (port, process, its log so far). Not ready yet."""
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        app = make_app(model, root, dynamic_config or {})
        variables = yaml.safe_load((app / "config.yaml").read_text())["environment_variables"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        env = {**os.environ, **environment, **variables, "INFERENCE_SERVER_PORT": str(port), "HOME": str(root)}
        env.pop("PYTHONPATH", None)
        with (root / "log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "main.py"], cwd=app, env=env, stdout=log, stderr=log)
        try:
            yield port, process, (root / "log").read_text
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def write_down(question: Question) -> Any:
    """A question as JSON, for those who read the recording."""
    if isinstance(question, Conversation):
        return {"messages": question.messages, "fields": dict(question.fields)}
    written = question.bytes.decode("latin-1")
    return written if len(written) < 1000 else f"{written[:500]}... ({len(written)} bytes)"


def record(model: str) -> dict[str, Any]:
    """What Truss answers about one model."""
    with truss_server(MODELS / model, ENVIRONMENT, DYNAMIC_CONFIG.get(model)) as (port, _, log):
        assert wait_until_ready(port), log()
        answers = put_all(port, model)
    return {
        name: {"asked": write_down(question), "answer": answers[name]} for name, question in QUESTIONS[model].items()
    }


def load_answers() -> dict[str, Any]:
    """What has been recorded: versions, and by model and question what was asked and answered, and our own answer."""
    recorded: dict[str, Any] = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {"models": {}}
    return recorded


def save_answers(answers: dict[str, Any]) -> None:
    answers["models"] = {name: answers["models"][name] for name in QUESTIONS if name in answers["models"]}
    ANSWERS.write_text(json.dumps(answers, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what Truss's server answers.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="only these (or `lives`); the rest stays")
    chosen = parser.parse_args().models or [*QUESTIONS, "lives"]
    answers = load_answers()
    answers["versions"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    if "lives" in chosen:
        answers["lives"] = lives(truss_server)
        save_answers(answers)
    for model in chosen:
        if model == "lives":
            continue
        answers["models"][model] = record(model)
        print(f"{model}: {len(answers['models'][model])} answers", file=sys.stderr)
        save_answers(answers)


if __name__ == "__main__":
    main()
