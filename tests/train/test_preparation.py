"""Preparation: which tokenizer, decoder and rows a recipe means; nothing held out is learnt from; what was prepared is used again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from beichen.config import read_settings
from beichen.data.rows import DialogueRows, PretrainingRows, RowSource
from beichen.data.scoring import ScoringRows
from beichen.data.split import is_held_out
from beichen.errors import BeichenError, ConfigError, DataError, SettingsError, TokenizerError
from beichen.nn.initialization import initialize
from beichen.train.preparation import Parts, prepare
from beichen.train.run import train
from beichen.train.settings import TrainRecipe
from beichen.util.progress import SILENT
from tests.train.small_runs import tiny_recipe, write_corpus, write_dialogues


def parts_of(recipe: dict[str, Any], dtype: torch.dtype = torch.float32) -> Parts:
    return prepare(read_settings(TrainRecipe, recipe, name="recipe"), device=torch.device("cpu"), dtype=dtype, reporter=SILENT)


def rows_of(parts: Parts) -> RowSource:
    return parts.material.plan.stretches[0].rows


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpus) -> Path:
    """A finished run to go on from."""
    return train(tiny_recipe(tmp_path_factory.mktemp("runs") / "first", corpus, steps=2)).folder


def test_a_fresh_run_makes_all_its_parts(tmp_path, corpus):
    parts = parts_of(tiny_recipe(tmp_path, corpus))
    assert (parts.family, parts.decoder.config.vocab_size) == ("telechat2", parts.tokenizer.vocab_size)
    rows, ((name, scored),) = rows_of(parts), parts.material.held_out
    assert isinstance(rows, PretrainingRows) and rows.sequence_length == parts.decoder.config.max_position_embeddings == 32
    assert name == "text" and parts.material.account.read.items == 150
    texts = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    held_out = [text for text in texts if is_held_out(text, 0.05)]
    assert 0 < len(held_out) < 20
    assert scored.num_bytes == sum(len(text.encode()) for text in held_out)
    assert isinstance(scored, ScoringRows) and scored.num_targets == sum(len(parts.tokenizer.encode(text)) + 1 for text in held_out), (
        "every end token counts"
    )
    learnt = "".join(parts.tokenizer.decode(rows.row(row).input_ids.tolist()) for row in range(int(rows.rows_per_epoch) + 1))
    assert not any(text[:40] in learnt for text in held_out)


def test_a_fresh_mixture_is_published_by_the_families_that_have_one_and_refused_by_others_at_once(tmp_path, corpus):
    experts = {"num_experts": 4, "num_experts_per_token": 2, "intermediate_size": 8, "balance_factor": 0.01}
    for family, missing in (("ndl", {"down_bias": False}), ("telechat2", {"down_bias": True, "normalize_top_k": True})):
        recipe = tiny_recipe(tmp_path / family, corpus)
        parts = parts_of(recipe | {"model": recipe["model"] | {"family": family, "intermediate_size": 8, "experts": experts}})
        config = parts.decoder.config.experts
        assert config is not None and (config.num_experts, config.balance_factor) == (4, 0.01)
        assert all(getattr(config, key) == value for key, value in missing.items())
    recipe = tiny_recipe(tmp_path / "llama", tmp_path / "not-even-looked-for.jsonl")
    with pytest.raises(ConfigError, match="family 'llama' has no mixture of experts"):
        parts_of(recipe | {"model": recipe["model"] | {"family": "llama", "experts": experts}})


def test_a_tokenizer_sees_no_held_out_text(tmp_path):
    """A word that stands in held-out documents alone gets no piece of its own; in training text it does."""
    number, texts = 0, dict[bool, list[str]]({True: [], False: []})
    while min(map(len, texts.values())) < 30:
        plain = f"the cat {number} sat on the mat"
        held_out = is_held_out(f"{plain} {'zebra' * 3}", 0.3)
        texts[held_out].append(f"{plain} {'zebra' * 3}" if held_out else plain)
        number += 1
    outside = [text for text in texts[False] if not is_held_out(text, 0.3)]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[True] + outside))
    recipe = tiny_recipe(tmp_path / "run", path, tokenizer={"vocab_size": 300})
    recipe["data"]["held_out_fraction"] = 0.3
    pieces = parts_of(recipe).tokenizer.encode(" zebra mat")
    assert len(pieces) >= 6 and len(parts_of(recipe).tokenizer.encode(" cat")) == 1


def test_weights_follow_from_the_seed_and_rows_too(tmp_path, corpus):
    first = parts_of(tiny_recipe(tmp_path / "a", corpus, seed=3))
    again = parts_of(tiny_recipe(tmp_path / "b", corpus, seed=3))
    other = parts_of(tiny_recipe(tmp_path / "c", corpus, seed=4))
    assert all(torch.equal(left, right) for left, right in zip(first.decoder.parameters(), again.decoder.parameters(), strict=True))
    assert not torch.equal(first.decoder.head_weight, other.decoder.head_weight)
    rows = [[rows_of(parts).row(row).input_ids.tolist() for row in range(20)] for parts in (first, again, other)]
    assert rows[0] == rows[1] != rows[2]


def test_what_was_prepared_is_used_again(tmp_path, corpus):
    first = parts_of(tiny_recipe(tmp_path, corpus))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = parts_of(tiny_recipe(tmp_path, corpus))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written
    assert again.tokenizer.fingerprint == first.tokenizer.fingerprint and again.material.account == first.material.account


def test_going_on_takes_weights_sizes_and_tokenizer_from_the_checkpoint(tmp_path, corpus, trained):
    recipe = tiny_recipe(tmp_path, corpus, model={"start_from": str(trained), "hidden_size": 64}, tokenizer={"vocab_size": 500})
    first, parts = parts_of(tiny_recipe(tmp_path / "fresh", corpus)), parts_of(recipe)
    assert parts.decoder.config.hidden_size == 16 and parts.tokenizer.vocab_size == first.tokenizer.vocab_size == 320
    initialize(first.decoder, 0)
    assert not torch.equal(parts.decoder.head_weight, first.decoder.head_weight)


def test_dialogues_are_fitted_into_rows_and_answers_scored(tmp_path, trained):
    dialogues = write_dialogues(tmp_path / "dialogues.jsonl")
    data = {"files": [str(dialogues)], "kind": "dialogues", "sequence_length": 64, "held_out_fraction": 0.0}
    parts = parts_of(tiny_recipe(tmp_path / "run", dialogues, model={"start_from": str(trained)}, data=data))
    assert isinstance(rows_of(parts), DialogueRows) and not parts.material.held_out
    row = rows_of(parts).row(0)
    scored = [int(target) for target in row.targets if target != -100]
    assert 0 < len(scored) < row.token_count
    assert parts.tokenizer.decode(scored).strip()


def test_another_family(tmp_path, corpus):
    model = {"family": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
             "intermediate_size": 24, "tie_word_embeddings": True}  # fmt: skip
    parts = parts_of(tiny_recipe(tmp_path, corpus, model=model), dtype=torch.bfloat16)
    config = parts.decoder.config
    assert parts.family == "llama" and config.rope.rule == "default" and config.num_key_value_heads == 1 and config.tie_word_embeddings
    assert {parameter.dtype for parameter in parts.decoder.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"data": {"files": []}}, SettingsError, "data.files: empty"),
        ({"data": {"files": ["nowhere.jsonl"]}}, DataError, "nowhere.jsonl"),
        ({"model": {"family": "lama"}}, BeichenError, "did you mean 'llama'"),
        ({"model": {"hidden_size": 12, "num_attention_heads": 4, "num_key_value_heads": 3}}, ConfigError, "num_key_value_heads=3"),
        ({"model": {"start_from": "nowhere"}}, BeichenError, "nowhere"),
        ({"tokenizer": {"path": "nowhere"}}, BeichenError, "nowhere"),
        ({"tokenizer": {"vocab_size": 100}}, BeichenError, "vocab_size=100"),
        ({"tokenizer": {"pattern": "hann"}}, BeichenError, "han"),
        ({"tokenizer": {"template": "telechat22"}}, BeichenError, "telechat2"),
    ],
)
def test_a_users_fault_is_said_as_one(tmp_path, corpus, changes, kind, message):
    recipe = tiny_recipe(tmp_path, corpus)
    recipe = {key: {**recipe[key], **changes.get(key, {})} if isinstance(recipe[key], dict) else recipe[key] for key in recipe}
    with pytest.raises(kind) as fault:
        parts_of(recipe)
    assert message in str(fault.value)


def test_dialogues_without_a_tokenizer_say_what_to_name(tmp_path):
    dialogues = write_dialogues(tmp_path / "dialogues.jsonl")
    with pytest.raises(SettingsError, match=r"name a folder that holds one, or model\.start_from"):
        parts_of(tiny_recipe(tmp_path / "run", dialogues, data={"files": [str(dialogues)], "kind": "dialogues"}))


def test_a_tokenizer_too_large_for_the_model_is_refused(tmp_path, corpus, trained):
    larger = parts_of(tiny_recipe(tmp_path / "larger", corpus, tokenizer={"vocab_size": 340})).tokenizer
    assert larger.vocab_size > 320
    recipe = tiny_recipe(
        tmp_path / "run", corpus, model={"start_from": str(trained)}, tokenizer={"path": str(tmp_path / "larger" / "tokenizer")}
    )
    with pytest.raises(SettingsError, match=f"the tokenizer has {larger.vocab_size} ids, the model only 320 embedding rows"):
        parts_of(recipe)


def test_a_checkpoint_without_a_tokenizer_says_so(tmp_path, corpus, trained):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((trained / name).read_bytes())
    with pytest.raises(TokenizerError, match="bare"):
        parts_of(tiny_recipe(tmp_path / "run", corpus, model={"start_from": str(bare)}))


def test_a_run_computes_with_a_fault_of_the_original_on_request(tmp_path, corpus, trained):
    fresh = tiny_recipe(tmp_path / "run", corpus)
    for model in (fresh["model"], {"start_from": str(trained)}):
        plain = parts_of(fresh | {"model": model}).decoder.config
        faulty = parts_of(fresh | {"model": model | {"compatibility": ["original_rope"]}}).decoder.config
        assert (plain.rope.rounding, faulty.rope.rounding) == ("none", "float16_tables") and plain == faulty
        with pytest.raises(ConfigError, match="did you mean 'original_rope'"):
            parts_of(fresh | {"model": model | {"compatibility": ["orignal_rope"]}})
