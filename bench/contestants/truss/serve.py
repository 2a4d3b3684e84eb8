"""Truss's own server, laid out as its container has it, but on the loopback address and in a folder of this run.

serve.py MODEL FOLDER: makes FOLDER, which holds what the container has below /, and becomes the server.
"""

import os
import shutil
import sys
from pathlib import Path

import truss
import work
import yaml
from truss.base.truss_config import TrussConfig


def replace(file, old, new):
    source = file.read_text()
    if source.count(old) != 1:
        raise SystemExit(f"{file.name} of this truss has no single {old!r}")
    file.write_text(source.replace(old, new))


def make_app(model, root):
    templates = Path(truss.__file__).parent / "templates"
    app = root / "app"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(templates / "server", app)
    shutil.copytree(templates / "shared", app / "_truss_shared")
    shutil.copytree(model, app, dirs_exist_ok=True)
    config = TrussConfig.from_yaml(model / "config.yaml").to_dict(verbose=True)
    config["runtime"]["predict_concurrency"] = work.SLOTS
    (app / "config.yaml").write_text(yaml.safe_dump(config))
    for folder in ("secrets", "dynamic_config"):
        (root / folder).mkdir()
    # No access log, as for all contestants.
    replace(app / "truss_server.py", 'host="0.0.0.0",', 'host="127.0.0.1", access_log=False,')
    replace(app / "model_wrapper.py", 'Path("/packages")', f'Path("{app / "packages"}")')
    replace(app / "_truss_shared" / "secrets_resolver.py", '"/secrets"', f'"{root / "secrets"}"')
    dynamic = app / "_truss_shared" / "dynamic_config_resolver.py"
    replace(dynamic, '"/etc/b10_dynamic_config"', f'"{root / "dynamic_config"}"')
    return app


app = make_app(Path(sys.argv[1]), Path(sys.argv[2]).resolve())
os.environ["INFERENCE_SERVER_PORT"] = str(work.PORT)
os.environ["HOME"] = str(app.parent)
os.chdir(app)
os.execv(sys.executable, [sys.executable, "main.py"])
