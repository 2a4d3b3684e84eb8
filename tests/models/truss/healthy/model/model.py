"""Healthy is what the latest predict was told; with `raises` it fails."""


class Model:
    def __init__(self):
        self.health = True

    def is_healthy(self):
        if self.health == "raises":
            raise ValueError("not healthy")
        return self.health

    def predict(self, model_input):
        self.health = model_input
        return model_input
