"""The OpenAI-style methods as the services' own clients use them."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from tests.support.process import PATIENCE_S, Server, serving, write_model

MODELS = Path(__file__).parent.parent / "models"
PATHS = {
    "chat_completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(MODELS / "openai_style") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    url = f"http://127.0.0.1:{server.port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    url = f"http://127.0.0.1:{server.port}"
    headers = {"x-name": "me"}
    with anthropic.Anthropic(
        base_url=url, api_key="none", max_retries=0, timeout=PATIENCE_S, default_headers=headers
    ) as client:
        yield client


# --- openai ---


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "HELLO"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 2


@pytest.mark.parametrize("way", ["generator", "async generator", "starlette", "starlette async", "fastserve"])
def test_chat_streamed(client: openai.OpenAI, way: str) -> None:
    stream = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "a b c"}], stream=True, extra_headers={"x-way": way}
    )
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    chunks = list(stream)
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["a ", "b ", "c ", ""]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_chat_that_the_model_refuses(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="missing", messages=[])
    assert "no such model" in str(refused.value)


def test_chat_that_fails(client: openai.OpenAI, server: Server) -> None:
    server.log = ""
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="m", messages=[])
    server.wait_for_log("IndexError")


def test_a_chat_that_the_client_leaves_is_over_and_the_next_is_answered(client: openai.OpenAI) -> None:
    content = "word " * 100_000
    with client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": content}], stream=True
    ) as stream:
        assert next(stream).choices[0].delta.content == "word "
    test_chat(client)


def test_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="m", prompt="a b").choices[0].text == "A B"
    stream = client.completions.create(model="m", prompt="a b", stream=True)
    assert [chunk.choices[0].text for chunk in stream] == ["a", "b"]


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="m", input=["a", "bcd"], encoding_format="float")
    assert [data.embedding for data in answer.data] == [[1.0, 0.5], [3.0, 0.5]]


def test_responses_streamed(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="m", input="a b", stream=True))
    assert [event.type for event in events] == [
        "response.created",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.completed",
    ]
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == ["a", "b"]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "a b"


def test_responses(tmp_path: Path) -> None:
    source = (MODELS / "openai_style/model/model.py").read_text()
    source = source[: source.index("    async def responses")]
    source += (
        "    def responses(self, inputs):\n        return response_object(inputs, inputs['input'], 'completed')\n"
    )
    with serving(write_model(tmp_path, source)) as server:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
        with client:
            answer = client.responses.create(model="m", input="a b")
        assert (answer.status, answer.output_text) == ("completed", "a b")


def test_the_async_client_asks_several_things_at_once(server: Server) -> None:
    async def ask() -> list[str]:
        url = f"http://127.0.0.1:{server.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE_S) as client:

            async def chat(number: int) -> str:
                stream = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": f"a {number}"}], stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(chat(number) for number in range(20)))

    assert asyncio.run(ask()) == [f"a {number} " for number in range(20)]


# --- anthropic ---


def test_messages(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "hello"}])
    block = answer.content[0]
    assert block.type == "text"
    assert block.text == "hello me"


def test_messages_streamed(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "hello there"}]
    ) as stream:
        assert list(stream.text_stream) == ["hello ", "there ", "me "]
        answer = stream.get_final_message()
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 2)


# --- what the clients do not show ---


def test_the_methods_run_beside_a_predict_that_blocks(server: Server, client: openai.OpenAI) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    connection.request("POST", "/v1/models/model:predict", "{}")
    server.wait_for_log("predict waits")
    test_chat(client)
    test_chat_streamed(client, "generator")
    test_completions(client)
    test_embeddings(client)  # releases the other
    assert json.loads(connection.getresponse().read()) == "released"
    connection.close()


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "*/*"])
@pytest.mark.parametrize("agent", ["curl/8", "OpenAI/Python 1.0"])
def test_generators_are_events_whatever_the_client_accepts(server: Server, accept: str, agent: str) -> None:
    content = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], "stream": True})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    for path in (PATHS["chat_completions"], PATHS["responses"]):
        payload = content if path == PATHS["chat_completions"] else json.dumps({"model": "m", "input": "a"})
        connection.request("POST", path, payload, {"Accept": accept, "User-Agent": agent})
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert b"data: {" in response.read()
    connection.close()


PREDICT_ALONE = """
class Model:
    def predict(self, model_input):
        return model_input
"""


@pytest.mark.parametrize("name", PATHS)
def test_a_method_that_the_model_has_not_is_404_in_truss_s_words(name: str, predict_alone: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", predict_alone.port, timeout=PATIENCE_S)
    connection.request("POST", PATHS[name], "{}")
    response = connection.getresponse()
    assert response.status == 404
    assert json.loads(response.read()) == {"error": f"`{name}` must only be called if model has it."}
    assert response.headers["X-BASETEN-ERROR-CODE"] == "700"
    assert response.headers["X-BASETEN-ERROR-SOURCE"] == "04"
    connection.request("GET", PATHS[name])
    response = connection.getresponse()
    assert (response.status, response.headers["Allow"], bool(response.read())) == (405, "OPTIONS, POST", True)
    connection.close()


@pytest.fixture(scope="module")
def predict_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("model"), PREDICT_ALONE)) as server:
        yield server


# --- each kind of method, taking each kind of arguments ---

TAKEN = {
    "": "",
    ", inputs": "inputs",
    ", request: fastserve.Request": "request.method",
    ", inputs, request: fastserve.Request": "inputs, request.method",
}
KIND = {
    "def": ("", "return", ""),
    "async def": ("async ", "return", ""),
    "yield": ("", "yield str(", ")"),
    "async yield": ("async ", "yield str(", ")"),
}


@pytest.mark.parametrize("kind", KIND)
def test_every_kind_of_method_may_take_inputs_request_both_or_neither(kind: str, tmp_path: Path) -> None:
    prefix, leave, end = KIND[kind]
    source = "import fastserve\nclass Model:\n    def predict(self, model_input): ...\n"
    for name, (parameters, arguments) in zip(PATHS, TAKEN.items(), strict=False):
        source += f"    {prefix}def {name}(self{parameters}):\n        {leave} [{arguments}]{end}\n"
    with serving(write_model(tmp_path, source)) as server:
        for name, expected in zip(PATHS, ([], [7], ["POST"], [7, "POST"]), strict=False):
            status, content = server.request("POST", PATHS[name], b"7")
            assert (status, content.decode().replace("'", '"').replace(" ", "")) == (
                200,
                json.dumps(expected, separators=(",", ":")),
            )
