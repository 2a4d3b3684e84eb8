class Model:
    def preprocess(self, model_input):
        return model_input

    def predict(self, model_input):
        return {"echo": model_input}

    def postprocess(self, result):
        return result
