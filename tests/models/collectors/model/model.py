import threading

from prometheus_client import PROCESS_COLLECTOR, REGISTRY, Gauge

REGISTRY.unregister(PROCESS_COLLECTOR)  # as models do that were written for other servers
Gauge("my_gauge", "A gauge").set(3)

collected, released = threading.Event(), threading.Event()
released.set()


class Collector:
    error = None

    def describe(self):
        return []

    def collect(self):
        collected.set()
        released.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error
        return []


COLLECTOR = Collector()
REGISTRY.register(COLLECTOR)


class Model:
    def load(self):
        print("loading")
        collected.wait()  # metrics are read while the model loads

    def predict(self, model_input):
        if model_input == "hang":
            released.clear()
            collected.clear()
        elif model_input == "release":
            collected.wait()
            released.set()
        else:
            COLLECTOR.error = {"raise": ValueError("broken collector"), "exit": SystemExit(3)}[model_input]
