"""Raw bytes, as fastserve's README writes it: an input annotated `bytes`, a result of bytes."""

import work


class Upload:
    def predict(self, content: bytes):
        return work.upload(content)


class Download:
    def predict(self, model_input):
        return work.download(model_input["bytes"])


Model = {"upload": Upload, "download": Download}[work.WORK]
