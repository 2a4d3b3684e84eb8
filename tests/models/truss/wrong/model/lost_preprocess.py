import fastapi


class Model:
    def preprocess(self, model_input): ...

    def predict(self, request: fastapi.Request): ...
