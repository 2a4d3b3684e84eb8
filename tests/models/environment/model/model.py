import fastserve.model.environment

fastserve.model.environment.POLL_S = 0.01  # the tests cannot wait for 30 s


class Model:
    def __init__(self, environment):
        self.calls = [["__init__", environment]]

    def setup_environment(self, environment):
        self.calls.append(["setup_environment", environment])
        if environment == "bad":
            raise ValueError("no such environment")

    def load(self):
        self.calls.append(["load", None])

    def predict(self, model_input):
        return self.calls
