class Model:
    def load(self):
        raise ValueError("while it loads")

    def predict(self, model_input): ...
