"""generation_config.json as TeleChat published it (K13 of the reference), and what a caller says against it."""

import json
import warnings

import pytest

from beichen.errors import ConfigError, TokenizerError
from beichen.inference.generation_defaults import GenerationDefaults, parse_generation_defaults, read_generation_defaults
from beichen.inference.language_model import LanguageModel
from tests.inference.small_models import small_decoder, small_tokenizer

TELECHAT = {
    "max_length": 8192, "do_sample": False, "use_cache": True, "temperature": 0.3, "top_k": 5, "top_p": 0.85,
    "repetition_penalty": 1.01, "pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2, "user_token_id": 20, "bot_token_id": 21,
}  # fmt: skip


def parsed(**values):
    return parse_generation_defaults(values, "generation_config.json")


def test_sampling_stays_inert_until_it_is_asked_for():
    telechat = parsed(**TELECHAT)
    assert telechat.sampling({}) == {"repetition_penalty": 1.01}
    assert telechat.sampling({"top_k": 3, "seed": 1}) == {"repetition_penalty": 1.01, "top_k": 3, "seed": 1}
    assert telechat.sampling({"temperature": 0.7}) == {"repetition_penalty": 1.01, "temperature": 0.7, "top_k": 5, "top_p": 0.85}
    assert telechat.sampling({"temperature": 0.7, "top_p": 0.5, "repetition_penalty": 1.0})["top_p"] == 0.5
    assert telechat.sampling({"temperature": 0}) == {"repetition_penalty": 1.01, "temperature": 0}


def test_sampling_that_the_file_switches_on():
    assert parsed(do_sample=True, temperature=0.6, top_k=20, top_p=0.95).sampling({}) == {"temperature": 0.6, "top_k": 20, "top_p": 0.95}
    assert parsed(do_sample=True).sampling({}) == {"temperature": 1.0, "top_k": 50}
    assert parsed(do_sample=True, top_k=0).sampling({}) == {"temperature": 1.0}
    assert parsed(do_sample=True, temperature=0.0, top_k=3).sampling({}) == {"temperature": 0.0}
    assert parsed(do_sample=True, temperature=0.6).sampling({"temperature": 0}) == {"temperature": 0}


def test_lengths():
    assert parsed(max_length=100).new_tokens(30) == 70
    assert parsed(max_length=100).new_tokens(300) == 1
    assert parsed(max_length=100, max_new_tokens=5).new_tokens(30) == 5
    assert parsed().new_tokens(30) is None


def test_what_we_cannot_do_is_told_and_what_asks_for_nothing_is_not():
    with pytest.warns(UserWarning, match=r"num_beams=4, unheard_of='x': not supported"):
        parsed(num_beams=4, unheard_of="x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parsed(num_beams=1, no_repeat_ngram_size=0, typical_p=1.0, transformers_version="4", suppress_tokens=None, **TELECHAT)


@pytest.mark.parametrize(("key", "value"), [("temperature", "hot"), ("top_k", 1.5), ("do_sample", 1), ("max_new_tokens", True)])
def test_what_is_no_setting_is_named(key, value):
    with pytest.raises(ConfigError, match=rf"generation_config\.json: {key}={value!r}, expected"):
        parsed(**{key: value})


def test_files(tmp_path):
    assert read_generation_defaults(tmp_path) == GenerationDefaults()
    for text, words in (("{", "not JSON"), ("[]", "expected an object, got list")):
        (tmp_path / "generation_config.json").write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_generation_defaults(tmp_path)


def test_a_model_answers_as_its_file_says(tmp_path):
    model = LanguageModel(small_decoder(), small_tokenizer(), family="telechat2")
    end, other = model.tokenizer.end_id, model.tokenizer.special_ids["<_sep>"]
    file = {
        "max_new_tokens": 7,
        "repetition_penalty": 1.5,
        "do_sample": False,
        "top_k": 2,
        "eos_token_id": [end, other],
        "stop_strings": ["!"],
    }
    told = LanguageModel(model.decoder, model.tokenizer, family=model.family, defaults=parsed(**file))
    request = told.request("小明")
    assert (request.max_new_tokens, request.stop_ids, request.stop_strings) == (7, (end, other), ("!",))
    assert (request.sampling.repetition_penalty, request.sampling.top_k, request.sampling.temperature) == (1.5, None, 0.0)
    stated = told.request("小明", max_new_tokens=3, stop="?", repetition_penalty=1.0, temperature=1.0)
    assert (stated.max_new_tokens, stated.stop_strings, stated.sampling.repetition_penalty, stated.sampling.top_k) == (3, ("?",), 1.0, 2)
    model.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(file))
    import beichen

    assert beichen.load(tmp_path).request("小明") == request
    with pytest.raises(TokenizerError, match="another model"):
        LanguageModel(model.decoder, model.tokenizer, family=model.family, defaults=parsed(eos_token_id=300))
