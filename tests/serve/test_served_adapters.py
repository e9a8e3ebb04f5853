"""Adapters under names of their own beside their base: folders in, OpenAI's client out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

import beichen
from beichen.checkpoints.adapter_folder import save_adapter
from beichen.checkpoints.fingerprints import record_base
from beichen.checkpoints.loading import load_checkpoint
from beichen.errors import CheckpointError, SettingsError, TokenizerError
from beichen.inference.language_model import LanguageModel
from beichen.models.adapters import AdapterShape, attach
from beichen.models.linear_names import choose
from beichen.models.registry import load_family
from beichen.text.byte_pair_training import train_tokenizer
from tests.inference.small_models import TEXTS, small_decoder, small_tokenizer
from tests.models.test_adapters import shake
from tests.serve.live_server import Live, live_server

FORMS = {"plain": {"rslora": True}, "lengths": {"dora": True}}
MESSAGES = [{"role": "user", "content": "今天天气"}]


def write_adapter(folder: Path, base: Path, **form: Any) -> None:
    checkpoint, tables = load_checkpoint(base), load_family("telechat2")
    ranks = dict.fromkeys(choose(["all-linear"], tables, checkpoint.decoder), 3)
    shape = AdapterShape(alpha=6.0, ranks=ranks, **form)
    attach(checkpoint.decoder, tables.names, shape, seed=len(folder.name))
    shake(checkpoint.decoder)
    record = record_base(base, family="telechat2", dtype=torch.float32)
    save_adapter(folder, checkpoint.decoder, tables.names, shape, base=record)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("served") / "base"
    decoder = small_decoder(trained_length=1024, attention_output_bias=True, down_bias=True)
    LanguageModel(decoder, small_tokenizer(), family="telechat2").save(folder)
    for name, form in FORMS.items():
        write_adapter(folder.parent / name, folder, **form)
    return folder


@pytest.fixture(scope="module")
def live(base: Path) -> Iterator[Live]:
    model = beichen.load(base, dtype="float32", adapters={name: base.parent / name for name in FORMS})
    with live_server(model, name="base") as server:
        yield server


@pytest.fixture
def client(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def test_each_name_answers_as_its_folder_alone(client, base):
    answers = set()
    for name in ("base", *FORMS):
        alone = beichen.load(base.parent / name, dtype="float32")
        expected = alone.chat(MESSAGES, max_new_tokens=16)
        answer = client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=16, temperature=0)
        assert (answer.model, answer.choices[0].message.content) == (name, expected.text)
        streamed = client.completions.create(model=name, prompt="今天", max_tokens=9, temperature=0, stream=True)
        chunks = list(streamed)
        assert {chunk.model for chunk in chunks} == {name}
        assert "".join(chunk.choices[0].text for chunk in chunks) == alone.generate("今天", max_new_tokens=9).text
        vector = client.embeddings.create(model=name, input="今天天气").data[0].embedding
        with torch.no_grad():
            ids = torch.tensor([alone.tokenizer.encode("今天天气")])
            mean = torch.nn.functional.normalize(alone.decoder(ids).sum(1), dim=1)[0]
        torch.testing.assert_close(torch.tensor(vector), mean, atol=1e-4, rtol=1e-4)
        answers.add(answer.choices[0].message.content)
    assert len(answers) == 3


def test_the_list_of_models_says_what_stands_on_what(client):
    cards = {card.id: card.model_dump() for card in client.models.list().data}
    assert list(cards) == ["base", *FORMS]
    assert cards["base"]["parent"] is None and all(cards[name]["parent"] == cards[name]["root"] == "base" for name in FORMS)
    assert client.models.retrieve("plain").id == "plain"
    with pytest.raises(openai.NotFoundError, match="'plain'"):
        client.chat.completions.create(model="other", messages=MESSAGES)


def test_from_python_an_adapter_is_a_model_over_the_same_weights(base):
    model = beichen.load(base, dtype="float32", adapters={"plain": base.parent / "plain"})
    moved, alone = model.with_adapter("plain"), beichen.load(base.parent / "plain", dtype="float32")
    assert moved.decoder is model.decoder
    torch.testing.assert_close(moved([[1, 2, 3]]), alone([[1, 2, 3]]), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(moved([[1, 2, 3]]), model([[1, 2, 3]]), atol=1e-2)
    assert moved.generate("今", max_new_tokens=8) == alone.generate("今", max_new_tokens=8)
    with pytest.raises(SettingsError, match=r"no adapter 'plan'.*'plain'"):
        model.with_adapter("plan")


def test_what_does_not_belong_to_the_base_is_refused(base, tmp_path):
    with pytest.raises(CheckpointError, match="holds no adapter"):
        beichen.load(base, adapters={"one": base})
    with pytest.raises(SettingsError, match="is an adapter itself"):
        beichen.load(base.parent / "plain", adapters={"one": base.parent / "lengths"})
    LanguageModel(small_decoder(seed=9, trained_length=1024), small_tokenizer(), family="telechat2").save(tmp_path / "other")
    with pytest.raises(CheckpointError, match="not the base that the adapter was trained on"):
        beichen.load(tmp_path / "other", adapters={"one": base.parent / "plain"})
    write_adapter(tmp_path / "own words", base)
    train_tokenizer(TEXTS[::-1], vocab_size=310).save(tmp_path / "own words")
    with pytest.raises(TokenizerError, match="not those of the base"):
        beichen.load(base, adapters={"one": tmp_path / "own words"})
