import time


class Model:
    def predict(self, model_input):
        """{"seconds": S}: S seconds in which the GIL is free, as in a library that computes elsewhere."""
        time.sleep(model_input["seconds"])
        return {"slept": model_input["seconds"]}
