"""What the platform says the environment is, when it is set up and when the model is made."""


class Model:
    def __init__(self, environment):
        self.seen = [["made", environment]]

    def setup_environment(self, environment):
        self.seen.append(["set up", environment])

    def load(self):
        self.seen.append(["load"])

    def predict(self, model_input):
        return self.seen
