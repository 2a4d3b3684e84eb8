"""Shows what it was given, and remembers it: the model behind tests/cases."""

import fastserve


class Model:
    def load(self):
        self.seen = []

    async def predict(self, request: fastserve.Request):
        content = (await request.body()).decode("latin-1")
        self.seen.append(content)
        fields = request.headers
        return {"seen": content, "url": request.url, "host": fields.get("host", ""), "tag": fields.get("x-tag", "")}

    def completions(self, inputs):
        return inputs

    def messages(self, inputs):
        yield from inputs

    def chat_completions(self, inputs):
        return fastserve.Response(**{"content": b"", **inputs})

    async def embeddings(self, request: fastserve.Request):
        seen, self.seen = self.seen, []
        return seen
