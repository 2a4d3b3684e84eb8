"""The least a model can be: what went in comes out. Needs nothing installed."""


class Model:
    def predict(self, model_input):
        return {"echo": model_input}
