ANSWERS = {
    "true": lambda: True,
    "text": lambda: "x",
    "none": lambda: None,
    "zero": lambda: 0,
    "false": lambda: False,
    "empty": dict,
    "raises": lambda: {}["missing"],
    "stops": lambda: next(iter([])),
    "exits": lambda: exit(3),
    "without truth": lambda: WithoutTruth(),
}


class WithoutTruth:
    def __bool__(self):
        raise ValueError("neither")


class Model:
    def __init__(self):
        self.asked = 0
        self.answer = ANSWERS["true"]

    def is_healthy(self):
        self.asked += 1
        return self.answer()

    def predict(self, model_input):
        """Answer probes so from now on. Returns how many there have been."""
        self.answer = ANSWERS[model_input]
        return self.asked
