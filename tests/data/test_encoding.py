"""Laws of the store: all texts are in it once, in one of its parts, and nothing that does not fit is ever opened."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from beichen.data import encoding
from beichen.data.encoding import EncodedCorpus, encode_corpus, encode_documents
from beichen.data.split import is_held_out, split_position
from beichen.data.store import TokenStore
from beichen.errors import DataError, StorageError
from beichen.util.progress import SilentReporter, Task
from tests.data.byte_tokenizer import ByteTokenizer, documents_of

TEXTS = [f"{number} " + "文" * (number * 7 % 90) for number in range(300)]


def texts_in(store: TokenStore) -> list[str]:
    return [bytes(store.document(number)[:-1].astype(np.uint8)).decode() for number in range(store.num_documents)]


def corpus_file(folder: Path, texts: list[str], name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.mark.parametrize(("vocab_size", "dtype"), [(257, "uint16"), (1 << 16, "uint32")])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_both_parts_together_are_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocab_size: int, dtype: str, chunk: int
) -> None:
    monkeypatch.setattr(encoding, "CHUNK_CHARACTERS", chunk)
    corpus = encode_corpus([corpus_file(tmp_path, TEXTS)], ByteTokenizer(vocab_size=vocab_size), tmp_path / "out", held_out_fraction=0.1)
    assert corpus.held_out is not None
    assert texts_in(corpus.train) == [text for text in TEXTS if not is_held_out(text, 0.1)]
    assert texts_in(corpus.held_out) == [text for text in TEXTS if is_held_out(text, 0.1)]
    for store in (corpus.train, corpus.held_out):
        assert store.tokens.dtype == dtype
        assert store.tokens[0] == 256 and all(store.document(number)[-1] == 256 for number in range(store.num_documents))
        assert store.num_bytes == store.document_bytes.sum() == store.num_tokens - store.num_documents
        assert store.lengths.sum() == store.num_tokens
    account = corpus.account
    account.check()
    assert account.used.items == len(TEXTS) and account.used.size == sum(len(text.encode()) for text in TEXTS)


class Watching(SilentReporter):
    """How many texts were encoded whenever the bar moved, and where it stood."""

    def __init__(self, encoded: list[str]) -> None:
        self.encoded, self.moves = encoded, list[tuple[int, float]]()

    @contextmanager
    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> Iterator[Task]:
        yield self

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        raise AssertionError("the bar is set")

    def set(self, done: float, **figures: float | str) -> None:
        self.moves.append((len(self.encoded), done))


def test_the_bar_shows_what_is_encoded_and_not_what_is_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CHUNK_DOCUMENTS", 100)
    path, encoded = corpus_file(tmp_path, [*TEXTS, " "]), list[str]()

    class Counting(ByteTokenizer):
        def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
            encoded.extend(texts)
            return super().encode_batch(texts)

    watching = Watching(encoded)
    encode_corpus([path], Counting(), tmp_path / "out", reporter=watching)
    assert [number for number, _ in watching.moves] == [100, 200, 300, 300]
    places = [done for _, done in watching.moves]
    assert places == sorted(places) and places[-1] == path.stat().st_size


def test_the_fraction_itself_is_not_held_out(tmp_path: Path) -> None:
    positions = sorted(map(split_position, TEXTS))
    corpus = encode_documents(documents_of(TEXTS), ByteTokenizer(), tmp_path / "out", held_out_fraction=positions[20])
    assert corpus.held_out is not None and corpus.held_out.num_documents == 20


def test_dropped_documents_are_in_the_account(tmp_path: Path) -> None:
    path = corpus_file(tmp_path, [*TEXTS, " ", "\n"])
    with path.open("a") as file:
        file.write('{"text": 1}\n')
    corpus = encode_corpus([path], ByteTokenizer(), tmp_path / "out", on_bad="count")
    assert corpus.held_out is None
    account = TokenStore(tmp_path / "out" / "train").account
    assert {reason: tally.items for reason, tally in account.dropped.items()} == {"blank text": 2, "text is not a string": 1}
    assert account.read.items == 303 and "303 documents" in account.as_text()


def test_used_again_only_while_nothing_changed(tmp_path: Path) -> None:
    path = corpus_file(tmp_path, TEXTS)

    def encode(tokenizer: ByteTokenizer | None = None, fraction: float = 0.1) -> EncodedCorpus:
        return encode_corpus([path], tokenizer or ByteTokenizer(), tmp_path / "out", held_out_fraction=fraction)

    assert [encode().reused, encode().reused] == [False, True]
    assert not encode(ByteTokenizer("another")).reused
    assert not encode(fraction=0.2).reused
    assert not encode(fraction=0.0).reused
    assert not (tmp_path / "out" / "held_out").exists()
    corpus_file(tmp_path, TEXTS[:-1])
    assert not encode().reused and encode().reused
    tokens = tmp_path / "out" / "train" / "shard-00000.bin"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    assert not encode().reused and encode().reused


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    encode_documents(documents_of(TEXTS), ByteTokenizer(), tmp_path)
    folder = tmp_path / "train"
    with pytest.raises(DataError, match="was encoded by tokenizer bytes, not by another"):
        TokenStore(folder, tokenizer_fingerprint="another")
    shard = folder / "shard-00000.bin"
    whole = shard.read_bytes()
    chooser = random.Random(0)
    damages = {"asks for": [whole[:-1], whole + b"\0"], "no shard": [b"", b"x" + whole[1:]], "the file is damaged": []}
    for first, last in ((12, 4096), (4096, len(whole))):  # the header behind its version, the content
        for _ in range(20):
            flipped = bytearray(whole)
            flipped[chooser.randrange(first, last)] ^= 1 << chooser.randrange(8)
            damages["the file is damaged"].append(bytes(flipped))
    for message, contents in damages.items():
        for content in contents:
            shard.write_bytes(content)
            with pytest.raises(DataError, match=f"shard-00000.bin: .*{message}"):
                TokenStore(folder)
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00000.bin: missing"):
        TokenStore(folder)
    shard.write_bytes(whole)
    TokenStore(folder)
    metadata = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({**metadata, "version": 99}))
    with pytest.raises(DataError, match=r"version 99, expected .* version 2"):
        TokenStore(folder)


def test_a_small_corpus_still_has_a_held_out_part(tmp_path: Path) -> None:
    texts = [text for text in TEXTS if not is_held_out(text, 0.05)][:7]
    nearest = min(texts, key=split_position)
    corpus = encode_documents(documents_of([*texts, nearest]), ByteTokenizer(), tmp_path / "out", held_out_fraction=0.05)
    assert corpus.held_out is not None
    assert texts_in(corpus.held_out) == [nearest, nearest]
    assert texts_in(corpus.train) == [text for text in texts if text != nearest]
    with pytest.raises(DataError, match="memory: 2 documents in all, too few to hold out 5% "):
        encode_documents(documents_of([nearest, nearest]), ByteTokenizer(), tmp_path / "none", held_out_fraction=0.05)
    assert not (tmp_path / "none").exists()


def test_a_fault_leaves_what_stood_there(tmp_path: Path) -> None:
    class Failing(ByteTokenizer):
        def encode_batch(self, texts: object, /) -> list[list[int]]:
            raise KeyboardInterrupt

    encode_documents(documents_of(TEXTS), ByteTokenizer(), tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        encode_documents(documents_of(TEXTS), Failing(), tmp_path / "out")
    assert texts_in(TokenStore(tmp_path / "out" / "train")) == TEXTS
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("years of work")
    with pytest.raises(StorageError, match="holds other files"):
        encode_documents(documents_of(TEXTS), ByteTokenizer(), tmp_path / "mine")


def test_a_document_without_tokens_is_an_end_token(tmp_path: Path) -> None:
    store = encode_documents(documents_of(["a", "", "b"]), ByteTokenizer(), tmp_path / "out").train
    assert [store.document(number).tolist() for number in range(3)] == [[97, 256], [256], [98, 256]]


def test_ids_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    class Broken(ByteTokenizer):
        def encode_batch(self, texts: object, /) -> list[list[int]]:
            return [[1, 257]]

    with pytest.raises(DataError, match="made id 257, its vocabulary ends at 256"):
        encode_documents(documents_of(["wx"]), Broken(), tmp_path / "out")
