"""Lengths that vLLM is asked for: of each rope rule what it computes as we do, said so that it takes it; tried where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace

import pytest

import beichen
from beichen.errors import SettingsError
from beichen.inference.language_model import LanguageModel
from beichen.inference.vllm.lengths import ALLOWS_MORE, LengthWords, words_for_length
from beichen.inference.vllm.serving import VllmOptions, command_of, environment_of
from beichen.nn.config import RopeConfig
from tests import needs
from tests.inference.small_models import small_config, small_decoder, small_tokenizer

TRAINED = 96
RULES = {
    "default": RopeConfig(),
    "linear": RopeConfig(rule="linear", factor=2.0),
    "llama3": RopeConfig(rule="llama3", factor=4.0, original_length=24),
    "dynamic_ntk": RopeConfig(rule="dynamic_ntk", factor=2.0, original_length=TRAINED),
    "yarn": RopeConfig(rule="yarn", factor=2.0, original_length=TRAINED, attention_scale=1.3),
    "short yarn": RopeConfig(rule="yarn", factor=2.0, original_length=24),
    "scaled_stepped_ntk": RopeConfig(rule="scaled_stepped_ntk", original_length=32, trained_length=TRAINED),
}
LONGEST = {"dynamic_ntk": TRAINED, "yarn": 192, "short yarn": 48, "scaled_stepped_ntk": TRAINED}  # the others: any length


def words(rule: str, length: int | None, folder) -> LengthWords:
    return words_for_length(replace(small_config(trained_length=TRAINED), rope=RULES[rule]), length, folder)


@pytest.mark.parametrize("rule", RULES)
def test_what_vllm_computes_as_we_do_is_asked_for_and_no_more(tmp_path, rule):
    longest = LONGEST.get(rule, 400)
    assert words(rule, longest, tmp_path).max_model_len == longest
    if rule in LONGEST:
        with pytest.raises(SettingsError, match=f"--max-model-len {longest + 1}: .* up to {longest} tokens"):
            words(rule, longest + 1, tmp_path)


def test_a_longer_table_and_leave_are_asked_for_where_they_are_needed(tmp_path):
    for rule in ("default", "llama3"):
        assert words(rule, TRAINED, tmp_path) == LengthWords(max_model_len=TRAINED)
        assert words(rule, 97, tmp_path) == LengthWords(max_model_len=97, positions=97, allow_more=True)
    assert words("linear", 192, tmp_path) == LengthWords(max_model_len=192)
    assert words("yarn", 192, tmp_path) == LengthWords(max_model_len=192, allow_more=True), "the table is that long, vLLM's leave is not"


def test_vllm_is_held_to_its_table_where_it_would_go_beyond(tmp_path):
    """Of a dynamic rule it takes the trained length times the factor, of yarn the trained length, however short the table is."""
    assert {rule: words(rule, None, tmp_path).max_model_len for rule in RULES} == {
        **dict.fromkeys(RULES), "dynamic_ntk": TRAINED, "short yarn": 48,
    }  # fmt: skip


def test_a_tokenizer_that_states_less_needs_leave(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    assert words("default", 64, tmp_path) == LengthWords(max_model_len=64)
    assert words("default", 65, tmp_path) == LengthWords(max_model_len=65, allow_more=True)


def test_the_command_and_the_environment_say_so(tmp_path):
    options = VllmOptions(name="m", length=LengthWords(max_model_len=97, positions=97, allow_more=True))
    command = command_of(["vllm"], tmp_path, options)
    assert command[command.index("--max-model-len") + 1] == "97"
    assert json.loads(command[command.index("--hf-overrides") + 1]) == {"max_position_embeddings": 97}
    assert environment_of(options, {})[ALLOWS_MORE] == "1"
    nothing = VllmOptions(name="m")
    assert ALLOWS_MORE not in environment_of(nothing, {}) and "--hf-overrides" not in command_of(["vllm"], tmp_path, nothing)


ASKED = """
import json, os, sys
from vllm import LLM, SamplingParams
told = []
for folder, length, positions, prompt in json.loads(sys.argv[1]):
    more = {} if positions is None else {"hf_overrides": {"max_position_embeddings": positions}}
    model = LLM(folder, dtype="float32", max_model_len=length, enforce_eager=True, kv_cache_memory_bytes=1 << 27, **more)
    longest = model.llm_engine.model_config.max_model_len
    settings = SamplingParams(temperature=0, max_tokens=longest - len(prompt), ignore_eos=True, detokenize=False)
    told.append(list(model.generate([{"prompt_token_ids": prompt}], settings, use_tqdm=False)[0].outputs[0].token_ids))
    del model
print("TOLD", json.dumps(told))
"""


def test_vllm_answers_as_our_engine_up_to_the_longest(tmp_path):
    """In float32, ids for ids, in folders that vLLM reads as they are. BEICHEN_TEST_VLLM_PYTHON names an interpreter that has vLLM."""
    python = needs.vllm_python()
    asked, expected, form = [], [], {"attention_output_bias": False, "down_bias": False, "hidden_size": 128, "head_dim": 32}
    for rule, length in (("default", 144), ("linear", 192), ("llama3", 144), ("dynamic_ntk", None), ("yarn", 192), ("short yarn", None)):
        decoder = small_decoder(seed=4, trained_length=TRAINED, rope=RULES[rule], **form)
        LanguageModel(decoder, small_tokenizer(), family="llama").save(tmp_path / rule)
        told, prompt = words(rule, length, tmp_path / rule), list(range(3, 40))
        asked.append([str(tmp_path / rule), told.max_model_len, told.positions, prompt])
        longest = told.max_model_len or TRAINED
        model = beichen.load(tmp_path / rule, device="cpu", dtype="float32")
        expected.append(list(model.generate([prompt], max_new_tokens=longest - len(prompt), stop_ids=[])[0].ids))
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", ALLOWS_MORE: "1"
    }  # fmt: skip
    done = subprocess.run([python, "-c", ASKED, json.dumps(asked)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))[5:]) == expected
