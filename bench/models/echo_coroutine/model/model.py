class Model:
    async def predict(self, model_input):
        return {"echo": model_input}
