"""``/v1/embeddings`` by OpenAI's own client: one plain pass is the measure, alone, in company, and while answers run."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import httpx2
import openai
import pytest
import torch
import torch.nn.functional as F

from beichen.inference.language_model import LanguageModel
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server

TEXTS = ["今天天气很好 <_end> 🙂", "hello", "The quick brown fox " * 12, "天"]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_decoder(trained_length=256), small_tokenizer(), family="telechat2")


@pytest.fixture(scope="module")
def live(model: LanguageModel) -> Iterator[Live]:
    model.generator.resize(max_rows=8, kv_bytes=1 << 20, step_tokens=16)  # so that texts are read in several parts
    with live_server(model) as server:
        yield server


@pytest.fixture
def client(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def plain(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return F.normalize(model.decoder(torch.tensor([ids]))[0].mean(0), dim=0)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
@pytest.mark.parametrize("as_ids", [False, True])
def test_vectors_are_those_of_one_plain_pass(client, model, encoding, as_ids):
    ids = [model.tokenizer.encode(text) for text in TEXTS]
    named = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(model="small", input=ids if as_ids else TEXTS, **named)
    assert [one.index for one in answer.data] == [0, 1, 2, 3] and answer.usage.prompt_tokens == sum(map(len, ids))
    if encoding == "base64":  # asked for by name, the client leaves it as it is
        assert answer.data[0].embedding == client_bytes(client, TEXTS[0])
        return
    for one, tokens in zip(answer.data, ids, strict=True):
        torch.testing.assert_close(torch.tensor(one.embedding), plain(model, tokens), atol=1e-5, rtol=0)
        (alone,) = client.embeddings.create(model="small", input=tokens, dimensions=32).data
        torch.testing.assert_close(torch.tensor(alone.embedding), torch.tensor(one.embedding), atol=1e-5, rtol=0)


def client_bytes(client: openai.OpenAI, text: str) -> object:
    return client.embeddings.create(model="small", input=text, encoding_format="base64").data[0].embedding


def test_answers_that_run_stay_as_they_are_and_vectors_too(client, model):
    """Many of both at once; each is what it is alone."""
    rng = random.Random(0)
    texts = [[rng.randrange(320) for _ in range(rng.randrange(1, 60))] for _ in range(24)]
    expected = model.chat([{"role": "user", "content": "天气"}], max_new_tokens=60).text
    wrong: list[object] = []

    def embed() -> None:
        for one, ids in zip(client.embeddings.create(model="small", input=texts).data, texts, strict=True):
            if not torch.allclose(torch.tensor(one.embedding), plain(model, ids), atol=1e-5, rtol=0):
                wrong.append(ids)

    def answer() -> None:
        told = client.chat.completions.create(model="small", messages=[{"role": "user", "content": "天气"}], max_tokens=60, temperature=0)
        if told.choices[0].message.content != expected:
            wrong.append(told)

    threads = [threading.Thread(target=work) for work in (embed, answer) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"dimensions": 16}, "dimensions", "have 32 numbers"), ({"input": []}, "input", "at least 1"), ({"input": ""}, "input", "empty"),
        ({"input": [[320]]}, "input[0]", "0 to 319"), ({"input": ["天" * 300]}, "input[0]", "reads 256"),
        ({"input": ["a", 5]}, "input[1]", "valid string"), ({"encoding_format": "int8"}, "encoding_format", "float"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"), ({"truncate": True}, "truncate", "unknown"),
    ],
)  # fmt: skip
def test_a_fault_names_its_field(live, change, param, said):
    answer = httpx2.post(f"{live.url}/v1/embeddings", json={"model": "small", "input": "a", **change})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param and said in error["message"]


def test_a_client_that_goes_away_ends_its_work(live):
    body = {"model": "small", "input": [[1] * 250] * 2000}
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(f"{live.url}/v1/embeddings", json=body, timeout=0.5)
    assert httpx2.post(f"{live.url}/v1/embeddings", json={"model": "small", "input": "a"}, timeout=60).status_code == 200
