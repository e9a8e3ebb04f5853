"""Laws of shards: many read as one; a writer killed at any instant goes on and ends with the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beichen.data.account import Account
from beichen.data.store import StoreWriter, TokenStore

GENERATOR = np.random.default_rng(0)
DOCUMENTS = [GENERATOR.integers(0, 256, size).tolist() for size in GENERATOR.integers(0, 40, 60)]


def writer(folder: Path, shard_tokens: int, state: Any = None) -> StoreWriter:
    folder.mkdir(exist_ok=True)
    return StoreWriter(folder, vocab_size=257, end_id=256, tokenizer_fingerprint="bytes", shard_tokens=shard_tokens, state=state)


def write(folder: Path, shard_tokens: int) -> TokenStore:
    store = writer(folder, shard_tokens)
    for document in DOCUMENTS:
        store.add([document], [len(document)])
    store.finish(account=Account(), inputs={})
    return TokenStore(folder, tokenizer_fingerprint="bytes")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("shard_tokens", [1, 50, 300])
def test_many_shards_read_as_one(tmp_path: Path, shard_tokens: int) -> None:
    one, many = write(tmp_path / "one", 1 << 20), write(tmp_path / "many", shard_tokens)
    assert len(one.shards) == 1 < len(many.shards)
    places = GENERATOR.integers(0, one.num_tokens + 1, 5000)
    assert len(many.tokens) == len(one.tokens)
    np.testing.assert_array_equal(many.tokens[places], one.tokens[places])
    np.testing.assert_array_equal(many.offsets, one.offsets)
    np.testing.assert_array_equal(many.document_bytes, one.document_bytes)
    for number, document in enumerate(DOCUMENTS):
        assert many.document(number).tolist() == [*document, 256]


@pytest.mark.parametrize("shard_tokens", [40, 200, 10_000])
def test_a_killed_writer_ends_with_the_same_bytes(tmp_path: Path, shard_tokens: int) -> None:
    write(tmp_path / "whole", shard_tokens)
    want = contents(tmp_path / "whole")
    for known in range(0, len(DOCUMENTS), 19):  # the state is taken here
        for lost in (0, 1, 9):  # what was added behind it, some of it flushed, when the process was killed
            folder = tmp_path / f"{known}-{lost}"
            store = writer(folder, shard_tokens)
            for document in DOCUMENTS[:known]:
                store.add([document], [len(document)])
            state = store.state()
            for document in DOCUMENTS[known : known + lost]:
                store.add([document], [len(document)])
            store.state()
            store = writer(folder, shard_tokens, state)
            for document in DOCUMENTS[known:]:
                store.add([document], [len(document)])
            store.finish(account=Account(), inputs={})
            assert contents(folder) == want
            shutil.rmtree(folder)


def test_no_documents_make_no_shard(tmp_path: Path) -> None:
    writer(tmp_path / "a", 100).finish(account=Account(), inputs={})
    store = TokenStore(tmp_path / "a")
    assert (store.num_documents, store.lengths.tolist(), store.tokens.tolist()) == (0, [], [256])
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["store.json"]
