from prometheus_client import Counter, Histogram

PREDICTIONS = Counter("my_predictions", "Predictions made", ["kind"])
LENGTHS = Histogram("my_input_length", "Length of inputs", buckets=[1, 10])


class Model:
    def predict(self, model_input):
        PREDICTIONS.labels(kind=type(model_input).__name__).inc()
        LENGTHS.observe(len(model_input))
        return model_input
