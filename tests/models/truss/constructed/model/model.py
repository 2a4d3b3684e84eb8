"""What `__init__`, the module and load are given, as far as it is the same wherever the directory lies."""

import os
import pathlib
import sys

from in_packages import NAME as PACKAGE
from model.beside import NAME as BESIDE

HERE = pathlib.Path(__file__).parents[1]
AT_IMPORT = os.environ.get("GREETING")


class Model:
    def __init__(self, **given):
        self.given = given
        self.loads = 0

    def load(self):
        self.loads += 1
        if self.loads == 1:
            raise ValueError("the first time")

    def predict(self, model_input):
        config, secrets = self.given["config"], self.given["secrets"]
        what = model_input["what"]
        if what == "secret":
            return secrets[model_input["name"]]
        if what == "secret_get":
            return secrets.get(model_input["name"], "default")
        if what == "secret_in":
            return model_input["name"] in secrets
        if what == "secrets_len":
            return len(secrets)
        if what == "secrets_iter":
            return list(secrets)
        if what == "config":
            return config[model_input["name"]]
        if what == "config_keys":
            return sorted(config)
        data_dir = self.given["data_dir"]
        return {
            "given": sorted(self.given),
            "data_dir": [type(data_dir).__name__, str(data_dir), isinstance(data_dir, pathlib.Path)],
            "data": sorted(path.name for path in data_dir.iterdir()),
            "environment": self.given["environment"],
            "variables": [AT_IMPORT, os.environ.get("COUNT"), os.environ.get("FLAG"), os.environ.get("NOTHING")],
            "packages": [PACKAGE, BESIDE],
            "cwd": HERE.samefile(pathlib.Path.cwd()),
            "path": HERE.samefile(sys.path[0] or "."),
            "loads": self.loads,
            "lazy": self.given["lazy_data_resolver"].block_until_download_complete(),
        }
