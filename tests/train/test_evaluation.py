"""Evaluations on the way: they change no weight, the best model is kept, a run that gets no better ends."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import beichen
from beichen.data.split import is_held_out
from beichen.errors import SettingsError
from beichen.train.answers import greedy_answers
from beichen.train.metrics import read_metrics
from beichen.train.result import TrainResult
from beichen.train.run import train
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.train.small_runs import tiny_recipe, write_corpus, write_dialogues


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl")


@pytest.fixture(scope="module")
def watched(tmp_path_factory, corpus) -> TrainResult:
    evaluation = {"every_steps": 10, "prompts": ["the cat", "天气"], "answer_tokens": 5, "keep_best": True}
    return train(tiny_recipe(tmp_path_factory.mktemp("watched") / "run", corpus, steps=40, evaluation=evaluation))


def test_looking_changes_nothing(tmp_path, corpus, watched):
    plain = train(tiny_recipe(tmp_path / "plain", corpus, steps=40))
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (watched.folder, plain.folder))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert (watched.loss, watched.held_out_loss) == (plain.loss, plain.held_out_loss)


def test_each_evaluation_is_on_record(watched):
    found = [record for record in read_metrics(watched.folder / "metrics.jsonl") if "held_out" in record]
    assert [record["step"] for record in found] == [10, 20, 30, 40]
    assert found[-1]["held_out"]["text"]["loss"] == pytest.approx(watched.held_out_loss)
    assert all(set(record["answers"]) == {"the cat", "天气"} for record in found)
    losses = [record["held_out"]["text"]["loss"] for record in found]
    assert watched.best_step == 10 * (1 + losses.index(min(losses)))


def test_the_best_model_is_one_that_loads(watched):
    best = beichen.load(watched.folder / "best", device="cpu", dtype="float32")
    assert best(best.tokenizer.encode("the cat")).isfinite().all()


def test_answers_are_the_greedy_ones_of_the_uncached_forward(watched):
    model = beichen.load(watched.folder, device="cpu", dtype="float32")
    (said,) = greedy_answers(model.decoder, model.tokenizer, ["the cat"], tokens=7, chat=False)
    ids = [model.tokenizer.end_id, *model.tokenizer.encode("the cat")]
    first = len(ids)
    while len(ids) < first + 7:
        token = int(model.decoder.logits(model.decoder(torch.tensor([ids])))[0, -1].argmax())
        if token in model.tokenizer.stop_ids:
            break
        ids.append(token)
    assert said == model.tokenizer.decode(ids[first:])


def test_a_run_that_gets_no_better_ends_early(tmp_path):
    """Nothing can be learnt from noise beyond its frequencies: soon every evaluation is worse than an earlier one."""
    rng = random.Random(0)
    path = tmp_path / "noise.jsonl"
    path.write_text("".join(json.dumps({"text": "".join(rng.choice("abcdefgh") for _ in range(60))}) + "\n" for _ in range(40)))
    evaluation = {"every_steps": 5, "patience": 3, "keep_best": True}
    result = train(tiny_recipe(tmp_path / "run", path, steps=2000, evaluation=evaluation))
    assert result.finished and result.steps < 2000 and result.best_step == result.steps - 15
    kept = beichen.load(tmp_path / "run" / "best", device="cpu", dtype="float32")
    assert kept.decoder.config.hidden_size == 16


def test_dialogues_answer_as_a_chat(tmp_path, watched):
    dialogues = write_dialogues(tmp_path / "dialogues.jsonl")
    data = {"files": [str(dialogues)], "kind": "dialogues", "sequence_length": 64}
    recipe = tiny_recipe(tmp_path / "tuned", dialogues, steps=4, model={"start_from": str(watched.folder)}, data=data)
    train({**recipe, "evaluation": {"every_steps": 2, "prompts": ["the cat sat"]}})
    found = [record for record in read_metrics(tmp_path / "tuned" / "metrics.jsonl") if "answers" in record]
    assert [record["step"] for record in found] == [2, 4] and set(found[0]["answers"]) == {"the cat sat"}


def test_a_validation_split_of_dialogues_is_never_trained_on(tmp_path, watched):
    """With it the loss of the held-out ones is on record; a run on the others alone gives the same weights."""
    dialogues = write_dialogues(tmp_path / "dialogues.jsonl", number=80)
    data = {"files": [str(dialogues)], "kind": "dialogues", "sequence_length": 64, "held_out_fraction": 0.2}
    recipe = tiny_recipe(tmp_path / "all", dialogues, steps=6, model={"start_from": str(watched.folder)}, data=data)
    result = train(recipe)
    assert result.held_out_loss is not None and result.held_out_loss > 0 and result.bits_per_byte is None
    lines = dialogues.read_text().splitlines(keepends=True)
    texts = ["\n".join(message["content"] for message in json.loads(line)["messages"]) for line in lines]
    kept = [line for line, text in zip(lines, texts, strict=True) if not is_held_out(text, 0.2)]
    assert 0 < len(kept) < len(lines)
    (tmp_path / "kept.jsonl").write_text("".join(kept))
    alone = train({**recipe, "out": str(tmp_path / "alone"), "data": {**data, "files": [str(tmp_path / "kept.jsonl")]}})
    assert alone.held_out_loss is None
    ours, theirs = (load_file(run.folder / "model.safetensors") for run in (result, alone))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_best_model_needs_something_held_out(tmp_path, corpus):
    data = {"files": [str(corpus)], "sequence_length": 32, "held_out_fraction": 0.0}
    with pytest.raises(SettingsError, match="nothing is held out"):
        train(tiny_recipe(tmp_path / "run", corpus, steps=4, data=data, evaluation={"every_steps": 2, "patience": 1}))
    with pytest.raises(SettingsError, match=r"evaluation\.every_steps"):
        train(tiny_recipe(tmp_path / "other", corpus, steps=4, evaluation={"keep_best": True}))


def test_an_answer_that_is_cut_ends_in_a_whole_character(monkeypatch):
    tokenizer = small_tokenizer()
    ids = tokenizer.encode("a龘")
    monkeypatch.setattr("beichen.train.answers._answer", lambda *_: ids[:-1])
    assert "\ufffd" in tokenizer.decode(ids[:-1])
    assert greedy_answers(small_decoder(), tokenizer, ["a"], tokens=1, chat=False) == ["a"]
