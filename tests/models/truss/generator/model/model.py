"""predict is itself a generator; a failure or a return before the first yield is one of the generator's."""


class Model:
    def predict(self, model_input):
        if model_input["fails"]:
            raise ValueError("before the first")
        for n in range(model_input["n"]):
            yield str(n)
