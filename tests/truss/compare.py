"""Our answers beside Truss's: asks our server the questions of `cases.py`, and finds where the two part.

Called by `test_answers.py`. `python -m tests.truss.compare [MODEL ...]` prints every difference; with --accept those
that have a reason in `differences.py` are written into answers.json, beside what Truss answered.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.process import Server, serving
from tests.truss.cases import DYNAMIC_CONFIG, ENVIRONMENT, MODELS, QUESTIONS, SECRET_FILES
from tests.truss.differences import reason_for
from tests.truss.exchange import Seen
from tests.truss.record import load_answers, put_all, save_answers

JSON: Final = "application/json"
METRICS: Final = "text/plain; version="
_OWN_METRICS: Final = re.compile(r"^(# \w+ )?(fastserve|process)_.*\n", re.MULTILINE)


@contextlib.contextmanager
def our_server(model: str, *flags: str) -> Iterator[Server]:
    """Our server with a model of `cases.py`, and around it what that says."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, files in (("secrets", SECRET_FILES), ("dynamic", DYNAMIC_CONFIG.get(model, {}))):
            (root / name).mkdir()
            for file, content in files.items():
                (root / name / file).write_text(content)
        places = ("--secrets-path", str(root / "secrets"), "--dynamic-config-path", str(root / "dynamic"))
        with serving(MODELS / model, *places, *flags, env=ENVIRONMENT) as server:
            yield server


def our_answers(model: str, *flags: str) -> dict[str, Seen]:
    """What our server answers about one model, by the names of the questions."""
    with our_server(model, *flags) as server:
        answers = put_all(server.port, model)
    return {name: without_own_metrics(answer) for name, answer in answers.items()}


def without_own_metrics(answer: Seen) -> Seen:
    """`answer` without the server's own metrics, which are never the same twice, if it is a page of metrics."""
    fields = answer.get("fields", {})
    if not fields.get("content-type", "").startswith(METRICS):
        return answer
    kept = _OWN_METRICS.sub("", answer["content"])
    return {**answer, "fields": {**fields, "content-length": str(len(kept))}, "content": kept}


def parsed(answer: Seen) -> Any:
    """`answer` with its content as the value that JSON means, and without its length: how it is spelled is free."""
    fields = answer.get("fields", {})
    if "content" not in answer or fields.get("content-type") != JSON:
        return answer
    kept = {name: said for name, said in fields.items() if name != "content-length"}
    return {**answer, "fields": kept, "content": json.loads(answer["content"], parse_constant=str)}


def main() -> None:
    answers = load_answers()
    is_accepting = "--accept" in sys.argv
    unexplained = 0
    for model in [word for word in sys.argv[1:] if word != "--accept"] or QUESTIONS:
        ours = our_answers(model)
        for name, recorded in answers["models"][model].items():
            recorded.pop("ours", None)
            recorded.pop("why", None)
            if parsed(ours[name]) == parsed(recorded["answer"]):
                continue
            reason = reason_for(f"{model} / {name}")
            if reason is None:
                unexplained += 1
            else:
                recorded |= {"ours": ours[name], "why": reason.why}
            if reason is None or not is_accepting:
                why = "WRONG" if reason is None else reason.why
                print(f"{model} / {name}: {why}\n  truss {_short(recorded['answer'])}\n  ours  {_short(ours[name])}")
    if is_accepting:
        save_answers(answers)
    sys.exit(f"{unexplained} without a reason" if unexplained else 0)


def _short(answer: Seen) -> str:
    written = json.dumps(answer, ensure_ascii=False)
    return written if len(written) < 400 else written[:400] + "..."


if __name__ == "__main__":
    main()
