"""What vLLM is asked, and what is refused before; its answers beside ours are in ``test_serving.py``, where it is installed."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from beichen.errors import SettingsError
from beichen.inference.api import Constraint, Request
from beichen.inference.vllm.generator import VllmGenerator
from tests.inference.small_models import small_tokenizer

REQUEST = Request(prompt_ids=[1], max_new_tokens=3)
REFUSED: dict[str, Any] = {"constraint": Constraint(regex="a"), "logprobs": 0, "prompt_logprobs": 0, "adapter": "poems", "priority": 1}
ANSWERED: dict[str, Any] = {
    "prompt_ids": [2], "max_new_tokens": 4, "min_new_tokens": 1, "stop_ids": [7], "stop_strings": ["a"], "shown_tokens": ["<think>"],
    "sampling": REQUEST.sampling, "owner": "somebody",
}  # fmt: skip


@pytest.fixture
def generator() -> VllmGenerator:
    """Without its engine, which ``check`` does not ask."""
    made = VllmGenerator.__new__(VllmGenerator)
    made.tokenizer, made.max_length, made.vocab_size = small_tokenizer(), 64, 320
    return made


def test_every_field_of_a_request_is_answered_or_refused():
    assert {field.name for field in fields(Request)} == REFUSED.keys() | ANSWERED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_what_vllm_is_not_asked_is_refused_by_name(generator, name):
    with pytest.raises(SettingsError, match=f"^{name}: not to be had of vLLM here"):
        generator.check(replace(REQUEST, **{name: REFUSED[name]}))


@pytest.mark.parametrize("name", ANSWERED)
def test_all_else_is_answered(generator, name):
    generator.check(replace(REQUEST, **{name: ANSWERED[name]}))


@pytest.mark.parametrize(("change", "said"), [({"max_new_tokens": 64}, "may reach 65 tokens"), ({"prompt_ids": [320]}, "holds id 320")])
def test_what_cannot_be_answered_is_refused(generator, change, said):
    with pytest.raises(SettingsError, match=said):
        generator.check(replace(REQUEST, **change))
