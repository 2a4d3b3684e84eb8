"""postprocess is a generator of what predict returned."""


class Model:
    def predict(self, model_input):
        return model_input["texts"]

    async def postprocess(self, texts):
        for text in texts:
            if text == "fails":
                raise ValueError("postprocess")
            yield text
