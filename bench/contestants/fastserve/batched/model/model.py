"""fastserve with batches: the same shared work as everybody's, several requests' payloads at once."""

import work


class Model:
    def load(self):
        self._model = work.load_plain(work.WORK)

    def predict(self, model_inputs):
        return self._model(model_inputs)
