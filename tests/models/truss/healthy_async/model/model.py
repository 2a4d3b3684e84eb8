"""As `healthy`, awaited."""


class Model:
    health = True

    async def is_healthy(self):
        if self.health == "raises":
            raise ValueError("not healthy")
        return self.health

    async def predict(self, model_input):
        self.health = model_input
        return model_input
