"""What a model does to `logging`, and what becomes of the server's lines and its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import serving, write_model

NASTY = """
import logging, logging.config

class Broken(logging.Handler):
    def emit(self, record):
        raise RuntimeError("a broken handler")

def factory(*arguments, **more):
    raise RuntimeError("a broken factory")

{what}

class Model:
    def load(self):
        print("loading")
    def predict(self, model_input):
        raise ValueError("the model's own")
"""


@pytest.mark.parametrize(
    "what",
    [
        "logging.getLogger().addHandler(Broken())",
        "logging.getLogger().handlers[:] = [Broken()]",
        "logging.getLogger('fastserve').addHandler(Broken())",
        "logging.setLogRecordFactory(factory)",
        "logging.config.dictConfig({'version': 1})",
        "logging.config.dictConfig({'version': 1, 'root': {'level': 'CRITICAL', 'handlers': []}})",
        "logging.basicConfig(force=True, handlers=[])",
    ],
)
def test_whatever_a_model_does_to_logging_the_server_loads_and_its_own_lines_are_whole(
    tmp_path: Path, what: str
) -> None:
    with serving(write_model(tmp_path, NASTY.replace("{what}", what))) as server:
        server.wait_for_log('"Executing model.load')
        assert server.request("POST", "/predict", b"1")[0] == 500
        server.wait_for_log('"ERROR", "message": "Internal Server Error .*the model\'s own')
        assert server.stop() == 0
        assert server.log.count("ready; the model loaded") == 1


def test_a_model_s_own_logging_is_as_it_says(tmp_path: Path) -> None:
    source = (
        "import logging\n"
        "logging.basicConfig(level=logging.DEBUG)\n"  # does nothing: the root has a handler, as by Truss
        "own = logging.getLogger('own')\nown.propagate = False\n"
        "handler = logging.StreamHandler()\nhandler.setFormatter(logging.Formatter('own:%(message)s'))\n"
        "own.addHandler(handler)\n"
        "class Model:\n    def predict(self, model_input):\n"
        "        logging.getLogger('other').debug('unseen')\n"
        "        logging.getLogger('other').info('seen', extra={'user': 7})\n        own.info('apart')\n"
    )
    with serving(write_model(tmp_path, source)) as server:
        server.predict(1)
        server.wait_for_log(r'"levelname": "INFO", "message": "seen", "user": 7\}\nown:apart\n')
        assert "unseen" not in server.log
    with serving(write_model(tmp_path, source, "runtime: {enable_debug_logs: true}")) as server:
        server.predict(1)
        server.wait_for_log('"DEBUG", "message": "unseen"')
