class Model:
    def __init__(self, secrets):
        self.secrets = secrets

    def predict(self, model_input):
        return self.secrets[model_input]
