import asyncio


class Model:
    async def predict(self, model_input):
        """{"seconds": S}: S seconds of waiting, as for another server."""
        await asyncio.sleep(model_input["seconds"])
        return {"slept": model_input["seconds"]}
