"""Ids of the C++ for SentencePiece files are those of its slow twin and of the ``sentencepiece`` library, id for id."""

import random
from functools import lru_cache
from typing import Any

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beichen.data.sources import read_documents
from beichen.text import compiled
from beichen.text.compiled_encoder import CompiledEncoder
from beichen.text.sentencepiece_encoding import PieceEncoder, PieceEncoders
from beichen.text.sentencepiece_engine import SentencePieceEngine
from beichen.text.sentencepiece_file import Kind, read_sentencepiece
from tests.shared_data import shared
from tests.text.agreement import DEFAULTS, golden_tokenizer
from tests.text.sentencepiece_models import NORMAL, TAGS, model_file, piece, trained_model
from tests.text.trained import ODD_TEXTS, sentences

pytestmark = pytest.mark.skipif(not compiled.status().available, reason=compiled.status().reason)

WORDS = ("▁", "a", "b", "ab", "▁a", "▁ab", "aba", "▁▁", "▁▁▁▁", "aa", "aaaa", "aaa", "好", "你", "你好", "ba", "abab", "b▁a", "好▁你")
PUBLISHED = [name for name in DEFAULTS if name.startswith("telechat")]


def both(data: bytes, *, tags: bool) -> tuple[PieceEncoder, PieceEncoder]:
    """The C++ and its twin; ``tags``: cut out control tokens as the library does."""
    file = read_sentencepiece(data, "here")
    encoders = PieceEncoders(file)
    whole = [token for token, one in enumerate(file.pieces) if one.kind is Kind.USER_DEFINED and (tags or one.text not in TAGS)]
    fast = encoders.cutting(whole)
    assert isinstance(fast, CompiledEncoder)
    with compiled.switched_off():
        slow = encoders.cutting(whole)
    assert not isinstance(slow, CompiledEncoder)
    return fast, slow


@lru_cache(maxsize=4)
def small(name: str, tags: bool) -> tuple[PieceEncoder, PieceEncoder]:
    return both(trained_model() if name == "trained" else model_file(WORDS), tags=tags)


@lru_cache(maxsize=8)
def library(name: str) -> Any:
    return sentencepiece.SentencePieceProcessor(model_proto=golden_tokenizer(name).file("tokenizer.model"))


def texts() -> st.SearchStrategy[str]:
    repeated = st.builds(lambda unit, times: unit * times, st.text(alphabet="ab 好你_=", min_size=1, max_size=4), st.integers(1, 80))
    cut = st.lists(st.sampled_from([*TAGS, "<_us", "_", "__", "0", "12", "\n", " ", "▁", "你好", "ab", "😀", "\x00"]), max_size=12).map(
        "".join
    )
    return st.one_of(st.text(), st.text(alphabet="ab 好你▁"), repeated, cut, st.sampled_from([*ODD_TEXTS, *sentences(20)]))


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("name", ["trained", "written"])
@given(batch=st.lists(texts(), max_size=4), prefixed=st.booleans())
def test_both_ways_give_the_same_ids(name, tags, batch, prefixed):
    """Also where pieces go on over spaces, so that only characters that never meet divide a text."""
    fast, slow = small(name, tags)
    assert fast.encode_batch(batch, prefixed=prefixed) == slow.encode_batch(batch, prefixed=prefixed)


@given(text=st.text(alphabet="ab", max_size=300))
def test_parts_longer_than_the_short_way_takes_follow_the_library(text):
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model_file(WORDS))
    assert small("written", True)[0].encode_batch([text], prefixed=True) == [theirs.encode(text)]


@pytest.mark.parametrize("name", PUBLISHED)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first example reads the vocabulary
@given(batch=st.lists(texts(), min_size=1, max_size=4))
def test_published_vocabularies_over_random_text(name, batch):
    shared("golden/tokenizers")
    engine = golden_tokenizer(name).engine
    assert isinstance(engine, SentencePieceEngine)
    assert isinstance(engine._published, CompiledEncoder)
    assert engine._published.encode_batch(batch, prefixed=True) == library(name).encode(batch)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_vocabularies_over_a_corpus(name):
    """Whole documents, runs of Chinese without an end, and text with anything put into it."""
    draw = random.Random(name)
    shared("golden/tokenizers")
    files = ("zh_poetry.jsonl", "en_tinyshakespeare.jsonl", "zh_lctt_articles.jsonl.zst", "code_python.jsonl.zst")
    documents = [one.text for file in files for _, one in zip(range(25), read_documents([shared(f"data/corpus/{file}")]), strict=False)]
    odd = [" ", "  ", "\n", "\t", "_", "___", "▁", "7", "😈", "<_user>", "<reserve3>", "\ufeff", "\u0301", "龘"]
    mixed = ["".join(letter + draw.choice(odd) * (draw.random() < 0.1) for letter in text[:2000]) for text in documents]
    endless = ["".join(letter for letter in text if letter.isalpha()) for text in documents]
    batch = [*documents, *mixed, *endless, "的" * 5000, "=" * 3000, "ab" * 2000]
    engine = golden_tokenizer(name).engine
    assert isinstance(engine, SentencePieceEngine)
    assert isinstance(engine._plain, CompiledEncoder)
    assert engine._published.encode_batch(batch, prefixed=True) == library(name).encode(batch)
    with compiled.switched_off():
        slow = engine._encoders.cutting([token for token in engine._whole if token not in engine.control_ids.values()])
    assert engine._plain.encode_batch(batch, prefixed=True) == slow.encode_batch(batch, prefixed=True)


@pytest.mark.parametrize(
    "data",
    [model_file([*WORDS[1:4], "▁"], more=piece("ba", -1, NORMAL)), model_file(["a", "b", "ab"]), model_file([*WORDS, "a"])],
    ids=["two pieces of one score", "no piece for a space", "a piece twice"],
)
def test_files_that_the_compiled_way_does_not_follow_take_the_other(data):
    assert not isinstance(PieceEncoders(read_sentencepiece(data, "here")).cutting([]), CompiledEncoder)


def test_a_run_without_an_end_takes_time_in_proportion():
    """Two million characters that all may join: looking through them for every merge would take hours."""
    fast, _ = small("written", True)
    ids = fast.encode_batch(["ab" * 1_000_000], prefixed=False)[0]
    assert len(ids) == 500_000
