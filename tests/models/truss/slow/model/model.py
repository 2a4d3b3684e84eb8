"""Loads once the file that GATE names is there; predict says that it has begun and waits for another."""

import os
import pathlib
import time


def wait_for(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.01)


class Model:
    def load(self):
        wait_for(os.environ["GATE"])

    def is_healthy(self):
        return True

    def predict(self, model_input):
        pathlib.Path(model_input["begun"]).touch()
        wait_for(model_input["gate"])
        return "through"
