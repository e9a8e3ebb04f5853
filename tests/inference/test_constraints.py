"""Laws of constraints: a finished answer fits whatever the model would rather say, greedy is the likeliest allowed id, and nobody can
make it hang."""

from __future__ import annotations

import json
import random
import re
import sys
import time
from functools import cache
from typing import Any

import pytest
import torch

from beichen.errors import MissingExtraError, SettingsError
from beichen.inference.api import Completion, Constraint, Request, SamplingSettings
from beichen.inference.constraint_limits import written_out
from beichen.inference.constraints import ConstraintCompiler
from beichen.inference.sampling import SampledRow, Sampler
from beichen.text.stream import IncrementalDecoder
from beichen.text.tokenizer import Tokenizer
from tests.inference.small_models import small_tokenizer
from tests.inference.test_filters import random_logits
from tests.text.sentencepiece_models import settings, trained_model


@cache
def sentencepiece_tokenizer() -> Tokenizer:
    return Tokenizer({"tokenizer.model": trained_model(), "tokenizer_config.json": settings()}, origin="made")


VOCABULARIES = {"byte-level": small_tokenizer, "sentencepiece": sentencepiece_tokenizer}


@cache
def compiler(kind: str) -> ConstraintCompiler:
    return ConstraintCompiler(VOCABULARIES[kind]())


def answer(kind: str, constraint: Constraint, seed: int, *, temperature: float = 3.0, length: int = 400, **changes: Any) -> Completion:
    """What a model of pure noise says under the constraint."""
    tokenizer = compiler(kind).tokenizer
    request = Request(
        prompt_ids=[1], max_new_tokens=length, constraint=constraint, sampling=SamplingSettings(temperature=temperature, seed=seed),
        **changes,
    )  # fmt: skip
    start = compiler(kind).start(constraint, stop_ids=request.stop_ids)
    row, sampler = SampledRow(request, vocab_size=tokenizer.vocab_size, constraint=start), None
    sampler = Sampler(vocab_size=tokenizer.vocab_size, device=torch.device("cpu"))
    ids: list[int] = []
    decoder, text = IncrementalDecoder(tokenizer), ""
    while len(ids) < length:
        token = int(sampler.pick(random_logits(1, tokenizer.vocab_size, seed * 1000 + len(ids)), [row])[0])
        row.note(token)
        assert row.fault is None, str(row.fault)
        if token in row.stop_ids:
            return Completion(text=text + decoder.finish(), ids=tuple(ids), finish_reason="stop")
        assert token not in tokenizer.special_ids.values()
        ids.append(token)
        text += decoder.push(token)
    return Completion(text=text, ids=tuple(ids), finish_reason="length")


def random_regex(rng: random.Random, depth: int = 2) -> str:
    pieces = ["a", "好", "[a-f0-9]", "[一-十]", "[0-9]", " ", "天气", r"\.", "[^a-z]", "x?"]
    parts = []
    for _ in range(rng.randint(1, 4)):
        part = rng.choice(pieces) if not depth or rng.random() < 0.6 else f"({random_regex(rng, depth - 1)}|{random_regex(rng, depth - 1)})"
        parts.append(part + rng.choice(["", "", "{1,3}", "{2}", "?"] if not part.endswith("?") else [""]))
    return "".join(parts)


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("seed", range(12))
def test_answers_match_random_regexes(kind, seed):
    regex = random_regex(random.Random(seed))
    for number in range(3):
        said = answer(kind, Constraint(regex=regex), 10 * seed + number)
        assert said.finish_reason == "stop" and re.fullmatch(regex, said.text), (regex, said.text)


def random_schema(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    kind = rng.choice(["string", "integer", "boolean", "enum", "null"] + ["object", "array"] * (depth > 0))
    if kind == "string":
        return {"type": "string", "minLength": rng.randint(0, 2), "maxLength": rng.randint(2, 6)}
    if kind == "integer":
        low = rng.randint(-50, 50)
        return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 500)}
    if kind == "enum":
        return {"enum": rng.sample(["红", "绿", 1, None, "a b", True], 3)}
    if kind == "array":
        return {"type": "array", "items": random_schema(rng, depth - 1), "minItems": 1, "maxItems": 3}
    if kind == "object":
        names = rng.sample(["name", "年龄", "x y", "z"], rng.randint(1, 3))
        properties = {name: random_schema(rng, depth - 1) for name in names}
        required = [name for name in names if rng.random() < 0.7]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": kind}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """A checker of our own for the schemas above."""
    if "enum" in schema:
        return any(value == one and type(value) is type(one) for one in schema["enum"])
    if schema["type"] == "string":
        return isinstance(value, str) and schema["minLength"] <= len(value) <= schema["maxLength"]
    if schema["type"] == "integer":
        return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
    if schema["type"] == "boolean":
        return isinstance(value, bool)
    if schema["type"] == "array":
        return isinstance(value, list) and 1 <= len(value) <= 3 and all(fits(one, schema["items"]) for one in value)
    if schema["type"] == "object":
        known = schema["properties"]
        return isinstance(value, dict) and set(schema["required"]) <= value.keys() <= known.keys() and all(
            fits(one, known[name]) for name, one in value.items()
        )  # fmt: skip
    return value is None


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("seed", range(12))
def test_answers_fit_random_schemas(kind, seed):
    schema = random_schema(random.Random(seed))
    said = answer(kind, Constraint(json_schema=schema), seed, length=1500)
    assert said.finish_reason == "stop" and fits(json.loads(said.text), schema), (schema, said.text)
    assert not re.search(r"\s", re.sub(r"(?<=[,:]) ", "", re.sub(r'"([^"\\]|\\.)*"', "", said.text))), said.text


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("seed", range(12))
def test_what_programs_write_fits_and_white_space_without_end_does_not(kind, seed):
    """The forms of JSON that models were shown: compact, and with a space behind commas and colons."""
    inner = random_schema(random.Random(seed))
    schema = {"type": "object", "properties": {"a": inner, "b": {}}, "required": ["a", "b"]}
    value = {"a": json.loads(answer(kind, Constraint(json_schema=inner), seed, length=1500).text), "b": [1, {"c": [2]}]}
    for constraint in (Constraint(json_schema=schema), Constraint(json_object=True)):
        for separators in ((", ", ": "), (",", ":")):
            assert accepted(kind, constraint, json.dumps(value, ensure_ascii=False, separators=separators))
        for separators in ((",  ", ": "), (",\n", ":"), (" ,", ":"), (",", " :")):
            assert not accepted(kind, constraint, json.dumps(value, ensure_ascii=False, separators=separators))
        assert not accepted(kind, constraint, json.dumps(value, ensure_ascii=False, indent=1))


def accepted(kind: str, constraint: Constraint, text: str) -> bool:
    """Whether a model could say this text and end."""
    state = compiler(kind).start(constraint)
    for token in compiler(kind).tokenizer.encode(text):
        if not state.allowed()[token]:
            return False
        state.note(token)
    return bool(state.allowed()[compiler(kind).tokenizer.end_id])


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_choices_and_grammars(kind):
    choices = ["是", "否", "yes, please", " spaced", 'with "quotes" and \\', "two\nlines"]
    said = {answer(kind, Constraint(choices=choices), seed).text for seed in range(60)}
    assert said <= set(choices) and len(said) >= 4
    grammar = 'start: "(" start ")" | "好"'
    for seed in range(5):
        text = answer(kind, Constraint(lark=grammar), seed).text
        depth = text.count("(")
        assert text == "(" * depth + "好" + ")" * depth


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("regex", [" ?a", "  b", "a", "( |天)c"])
def test_a_space_at_the_beginning_of_the_text_is_the_texts_own(kind, regex):
    """Vocabularies that put a space before every text take it away again: the constraint is on what the reader sees."""
    said = {answer(kind, Constraint(regex=regex), seed).text for seed in range(30)}
    assert all(re.fullmatch(regex, text) for text in said) and len(said) == 1 + ("?" in regex or "|" in regex)


def test_greedy_is_the_likeliest_allowed_id_by_brute_force():
    """Allowed is an id after which the text is still the beginning of a fitting one; looked up in all fitting texts."""
    tokenizer, one = small_tokenizer(), compiler("byte-level")
    texts = ["abab", "ab好", "好好", "c", "cc天"]
    encoded = [text.encode() for text in texts]
    for seed in range(20):
        request = Request(prompt_ids=[1], max_new_tokens=50)
        constraint = one.start(Constraint(choices=texts))
        row, sampler = SampledRow(request, vocab_size=320, constraint=constraint), Sampler(vocab_size=320, device=torch.device("cpu"))
        said = b""
        while True:
            logits = random_logits(1, 320, seed * 100 + len(said))
            control = set(tokenizer.special_ids.values())
            allowed = [
                token for token in range(320)
                if token not in control and any(text.startswith(said + tokenizer.token_bytes(token)) for text in encoded)
            ] + [tokenizer.end_id] * (said in encoded)  # fmt: skip
            token = int(sampler.pick(logits, [row])[0])
            assert token == allowed[int(logits[0, allowed].argmax())]
            row.note(token)
            if token == tokenizer.end_id:
                break
            said += tokenizer.token_bytes(token)
        assert said in encoded


def test_the_end_comes_only_where_the_text_is_complete_whatever_ids_end_it():
    custom = small_tokenizer().encode("x")[0]
    for seed in range(10):
        said = answer("byte-level", Constraint(regex="ab?"), seed, stop_ids=[custom])
        assert said.finish_reason == "stop" and said.text in ("a", "ab")


def test_a_complete_text_ends_before_the_shortest_length():
    said = answer("byte-level", Constraint(choices=["ab"]), 0, min_new_tokens=50)
    assert said.text == "ab" and said.finish_reason == "stop"
    assert len(answer("byte-level", Constraint(regex="a*"), 1, min_new_tokens=7).ids) >= 7


PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)
HOSTILE = {
    "nested repetition": {"regex": "(a{1000}){1000}"},
    "deeper": {"regex": "((a{100}){100}){100}"},
    "brackets": {"regex": "(" * 2000 + "a" + ")" * 2000},
    "look-ahead": {"regex": "(?=a)b"},
    "unclosed": {"regex": "("},
    "long": {"regex": "a" * 5000},
    "multiples": {"json_schema": {"allOf": [{"type": "integer", "multipleOf": prime} for prime in PRIMES]}},
    "pattern": {"json_schema": {"type": "string", "pattern": "((a{100}){100}){100}"}},
    "many": {"json_schema": {"enum": [f"value {number}" for number in range(20_000)]}},
    "ring": {"json_schema": {"$ref": "#"}},
    "crossed": {"json_schema": {"allOf": [{"anyOf": [{"required": [f"x{i}_{j}"]} for j in range(4)]} for i in range(10)]}},
    "elsewhere": {"json_schema": {"$ref": "http://127.0.0.1:9/schema.json"}},
    "unknown": {"json_schema": {"not": {"type": "string"}}},
    "impossible": {"json_schema": False},
    "optional": {"lark": "start: " + '("a"|"b")? ' * 5000},
    "no grammar": {"lark": "start"},
    "multiples within": {"lark": f"start: %json {json.dumps({'allOf': [{'type': 'integer', 'multipleOf': prime} for prime in PRIMES]})}"},
    "multiples apart": {"lark": "start: " + " | ".join(f'%json {{"type": "integer", "multipleOf": {prime}}}' for prime in PRIMES)},
    "no schema within": {"lark": 'start: %json {"type": '},
}


@pytest.mark.parametrize("constraint", HOSTILE.values(), ids=HOSTILE)
def test_what_costs_too_much_or_means_nothing_is_refused_soon_and_named(constraint):
    started = time.process_time()
    with pytest.raises(SettingsError, match=f"^{next(iter(constraint))}"):
        compiler("byte-level").check(Constraint(**constraint))
    assert time.process_time() - started < 4


COSTLY = {
    "backtracking": {"regex": "(a|aa)+b"},
    "states": {"regex": "(a|b)*a(a|b){200}"},
    "stars": {"regex": "((((((a*)*)*)*)*)*)*b"},
    "words": {"regex": r"(\w{3,50}\s){20,40}"},
    "long text": {"json_schema": {"type": "string", "maxLength": 10**9}},
    "long list": {"json_schema": {"type": "array", "items": {"type": "integer"}, "minItems": 10**4}},
    "tree": {
        "json_schema": {"$defs": {"t": {"type": "object", "properties": {x: {"$ref": "#/$defs/t"} for x in "lr"}}}, "$ref": "#/$defs/t"}
    },
    "properties": {"json_schema": {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(1500)}}},
    "ambiguous": {"lark": 'start: a\na: a a | "x"'},
    "optional": {"lark": "start: " + '("a"|"b")? ' * 300},
    "doubling": {"lark": "\n".join(["start: r0", *(f"r{number}: r{number + 1} r{number + 1}" for number in range(30)), 'r30: "a"'])},
}


@pytest.mark.parametrize("constraint", COSTLY.values(), ids=COSTLY)
def test_no_step_takes_long_it_rather_ends_this_answer_with_a_fault(constraint):
    given = Constraint(**constraint)
    try:
        state = compiler("byte-level").start(given)
    except SettingsError:
        return  # refused: as good
    rng, slowest = random.Random(0), 0.0
    for _ in range(60):
        started = time.process_time()
        allowed = state.allowed().nonzero()[0].tolist()
        assert allowed
        others = [token for token in allowed if token not in state.end_ids]
        state.note(rng.choice(others or allowed))
        slowest = max(slowest, time.process_time() - started)
        if not others:
            break
    assert slowest < 2
    assert state.fault is None or given.name in str(state.fault)


@pytest.mark.parametrize(
    ("regex", "length"),
    [("abc", 3), ("(ab{3}){2}", 8), ("[a-z(]{4}x", 5), (r"\p{Han}{7}", 7), (r"\{3}", 3), ("a{,5}", 5), ("((a{10}){10}){10}", 1000),
     ("a{2,}", 2), ("(((", 0)],
)  # fmt: skip
def test_repetitions_are_written_out(regex, length):
    assert written_out(regex) == length


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match="answer under a constraint needs the package 'llguidance'"):
        ConstraintCompiler(small_tokenizer()).check(Constraint(regex="a"))


def test_equal_constraints_are_compiled_once_and_answers_do_not_share_their_state():
    one = ConstraintCompiler(small_tokenizer())
    states = [one.start(Constraint(regex="ab")) for _ in range(2)]
    token = small_tokenizer().encode("a")[0]
    before = states[1].allowed().copy()
    states[0].note(token)
    assert not (states[0].allowed() == before).all() and (states[1].allowed() == before).all()
    assert one._compiled.cache_info().misses == 1


def tokenizers() -> list[Tokenizer]:
    return [make() for make in VOCABULARIES.values()]


def test_both_kinds_of_vocabulary_are_tried():
    assert {tokenizer.strips_first_space for tokenizer in tokenizers()} == {True, False}
