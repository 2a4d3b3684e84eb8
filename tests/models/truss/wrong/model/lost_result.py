import fastapi


class Model:
    def predict(self, model_input): ...

    def postprocess(self, request: fastapi.Request): ...
