import fastapi


class Model:
    def predict(self, request: fastapi.Request, model_input): ...
