"""Laws of large encoding: the same bytes whatever happened on the way, and an account that loses nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beichen.data import block_encoding, blocks, encoding_job
from beichen.data.account import Account
from beichen.data.encode_settings import EncodeSettings
from beichen.data.encoded_text import open_encoded_text
from beichen.data.encoding_job import encode_sources
from beichen.data.shards import ShardWriter
from beichen.data.source_list import sources_of_paths
from beichen.data.store import StoreWriter, TokenStore
from beichen.errors import DataError, SettingsError, StorageError
from tests.data.byte_tokenizer import ByteTokenizer
from tests.shared_data import shared

WORDS = random.Random(0)
TEXTS = ["".join(WORDS.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张 etaoin", k=WORDS.randrange(20, 90))) for _ in range(100)]
NEAR = EncodeSettings(duplicates="near", held_out_fraction=0.1, shard_tokens=3000, grades=True)
DIRTY = "data/corpus/dirty"


def corpus(folder: Path) -> list[Path]:
    """Two files with bad lines, blank texts, exact and near copies, across files too."""
    first, second = folder / "a.jsonl", folder / "b.txt"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS]
    lines[20:20] = ['{"text": 1}', "{", '{"text": " "}', json.dumps({"text": TEXTS[3]})]
    lines += [json.dumps({"text": max(TEXTS, key=len) + "了"})]
    first.write_text("\n".join(lines) + "\n", encoding="utf-8")
    second.write_text("\n".join([*TEXTS[5:9], "a text of its own", ""]), encoding="utf-8")
    return [first, second]


def encode(folder: Path, paths: list[Path], settings: EncodeSettings = NEAR, **options: Any) -> Account:
    given: dict[str, Any] = {"workers": 1, "bad_share": 0.1, **options}
    names = ["clean", "text_unit", "reader", "text_key", "encoding"]
    reading = {name: given.pop(name) for name in names if name in given}
    return encode_sources(sources_of_paths(paths, reading), ByteTokenizer(), folder, settings=settings, **given)


def texts_in(stores: list[TokenStore]) -> list[str]:
    return [bytes(s.document(n)[:-1].astype(np.uint8)).decode() for s in stores for n in range(s.num_documents)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(encoding_job, "COMMIT_SECONDS", 0.0)


@pytest.mark.usefixtures("small_blocks")
def test_whatever_was_read_is_written_or_dropped(tmp_path: Path) -> None:
    ledger = encode(tmp_path / "out", corpus(tmp_path), text_unit="lines")
    ledger.check()
    dropped = {reason: tally.items for reason, tally in ledger.dropped.items()}
    assert dropped == {"text is not a string": 1, "not JSON": 1, "blank text": 1, "duplicate": 5, "near duplicate": 1}
    text = open_encoded_text(tmp_path / "out", tokenizer_fingerprint="bytes")
    found = texts_in(text.train) + texts_in(text.held_out)
    assert len(found) == len(set(found)) == ledger.used.items == ledger.read.items - 9
    assert set(found) == {*TEXTS, "a text of its own"}
    assert sum(store.num_tokens for store in (*text.train, *text.held_out)) == ledger.used.tokens == ledger.used.size + len(found)
    assert 0 < len(texts_in(text.held_out)) < 0.3 * len(found)
    assert all(len(store.column("quality")) == store.num_documents for store in text.train)
    assert Account.from_dict(json.loads((tmp_path / "out" / "encoded.json").read_text())["ledger"]) == ledger == text.account
    assert not (tmp_path / "out" / ".work").exists()
    with pytest.raises(DataError, match="holds encoded text, not files"):
        sources_of_paths([tmp_path / "out"], {})


class _Killed(BaseException):
    pass


def _kill_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int, after: bool) -> None:
    """Ends the pass before or after the given call of a method, as a kill would: nothing else runs."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = [0]

    def method(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call and not after:
            raise _Killed
        result = original(*arguments, **options)
        if calls[0] == call:
            raise _Killed
        return result

    monkeypatch.setattr(owner, name, method)


@pytest.mark.usefixtures("small_blocks")
def test_killed_anywhere_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    encode(tmp_path / "whole", paths)
    want = contents(tmp_path / "whole")
    points: list[tuple[Any, str]] = [
        (encoding_job._Job, "_take"),
        (encoding_job.Progress, "commit"),
        (ShardWriter, "finish"),
        (ShardWriter, "state"),
        (StoreWriter, "finish"),
        (encoding_job, "write_atomically"),
        (encoding_job, "_tidy"),
    ]
    kills = 0
    for number, (owner, name) in enumerate(points):
        for call in (1, 4):
            for after in (False, True):
                folder = tmp_path / f"{number}-{call}-{after}"
                with pytest.MonkeyPatch.context() as patch:
                    _kill_at(patch, owner, name, call, after)
                    try:
                        encode(folder, paths)
                    except _Killed:
                        kills += 1
                encode(folder, paths)
                assert contents(folder) == want, (name, call, after)
    assert kills > 20


def test_processes_do_not_change_the_bytes(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    encode(tmp_path / "one", paths)
    encode(tmp_path / "two", paths, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("alone_seconds", "pools"), [(0.0, [2]), (60.0, [])], ids=["work left", "soon done"])
def test_processes_are_started_where_there_is_work_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone_seconds: float, pools: list[int]
) -> None:
    paths, started = corpus(tmp_path), list[int]()

    def pool(workers: int, **settings: Any) -> ProcessPoolExecutor:
        started.append(workers)
        return ProcessPoolExecutor(workers, **settings)

    monkeypatch.setattr(block_encoding, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(block_encoding, "usable_cores", lambda: 2)
    monkeypatch.setattr(block_encoding, "ALONE_SECONDS", alone_seconds)
    encode(tmp_path / "one", paths)
    encode(tmp_path / "more", paths, workers=None)
    assert started == pools
    assert contents(tmp_path / "one") == contents(tmp_path / "more")


@pytest.mark.usefixtures("small_blocks")
def test_parts_are_the_whole(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    whole = encode(tmp_path / "whole", paths, EncodeSettings(held_out_fraction=0.1))
    for part in (1, 2, 3):
        with pytest.raises(DataError, match=rf"part {part} of 3 is missing" if part > 1 else "no readable description"):
            open_encoded_text(tmp_path / "parts") if part > 1 else open_encoded_text(tmp_path)
        encode(tmp_path / "parts", paths, EncodeSettings(held_out_fraction=0.1, part=(part, 3)), bad_share=1.0)
    joined, one = open_encoded_text(tmp_path / "parts"), open_encoded_text(tmp_path / "whole")
    assert joined.account == whole
    for mine, theirs in ((joined.train, one.train), (joined.held_out, one.held_out)):
        assert sorted(texts_in(mine)) == sorted(texts_in(theirs))


def test_bad_records_beyond_a_share_fail_and_strict_stops(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    with pytest.raises(DataError, match=r"2 of 106 records cannot be used, more than 1\.0%: .*not JSON"):
        encode(tmp_path / "out", paths, bad_share=0.01)
    assert not (tmp_path / "out" / "encoded.json").exists()
    encode(tmp_path / "out", paths, bad_share=0.02)  # the same folder, now allowed
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"a\.jsonl:21: 'text' is int"):
            encode(tmp_path / f"strict{workers}", paths, strict=True, workers=workers)


def test_a_folder_of_other_text_is_left_alone(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    encode(tmp_path / "out", paths)
    want = contents(tmp_path / "out")
    assert encode(tmp_path / "out", paths).used.items > 90  # finished already
    with pytest.raises(StorageError, match="encoded with other settings"):
        encode(tmp_path / "out", paths, EncodeSettings())
    with pytest.raises(StorageError, match="encoded with other sources"):
        encode(tmp_path / "out", paths[:1])
    assert contents(tmp_path / "out") == want
    with pytest.raises(StorageError, match="holds other files"):
        encode(tmp_path, paths)
    with pytest.raises(SettingsError, match=r"part 3/2: must be i/n"):
        EncodeSettings(part=(3, 2))


DIRTY_CASES: dict[str, tuple[dict[str, Any], dict[str, int], int]] = {  # options, dropped by reason, written
    "broken_lines.jsonl": ({}, {"not JSON": 3, "not a JSON object": 1, "text is not a string": 2, "no text key": 1}, 10),
    "invalid_utf8.jsonl": ({}, {"invalid UTF-8": 1}, 4),
    "empty.jsonl": ({}, {}, 0),
    "whitespace_only.txt": ({}, {}, 0),
    "bom.jsonl": ({}, {}, 6),
    "crlf.jsonl": ({}, {}, 6),
    "no_final_newline.jsonl": ({}, {}, 3),
    "gbk.txt": ({"encoding": "gb18030", "text_unit": "file"}, {}, 1),
    "utf16le_bom.txt": ({"encoding": "utf-16", "text_unit": "file"}, {}, 1),
    "mojibake.jsonl": ({"clean": ("mojibake",)}, {"mojibake": 2}, 1),
    "exact_duplicates.jsonl": ({"duplicates": "letters"}, {"duplicate": 7}, 20),
    "long_line.txt.gz": ({"clean": ("length=1:500000",)}, {"too long": 1}, 0),
    "long_line_repeat.jsonl": ({"clean": ("repetition",)}, {"repetition": 1}, 0),
    "repetition.jsonl": ({"clean": ("lines", "repetition")}, {"repetition": 3, "repeated lines": 1}, 3),
    "html_leftovers.jsonl": ({"clean": ("html",)}, {}, 2),
    "control_and_unicode.jsonl": ({}, {"lone surrogate": 1}, 8),
    "mixed_language.jsonl": ({"clean": ("language",)}, {"language": 4}, 3),
    "misnamed.jsonl": ({}, {}, 1),
    "duplicate_ids.jsonl": ({}, {}, 3),
}


@pytest.mark.parametrize("name", DIRTY_CASES)
def test_dirty_files_do_what_is_expected(tmp_path: Path, name: str) -> None:
    options, dropped, written = DIRTY_CASES[name]
    settings = EncodeSettings(duplicates=options.get("duplicates", "none"), held_out_fraction=0.0)
    reading = {key: value for key, value in options.items() if key != "duplicates"}
    ledger = encode(tmp_path / "out", [shared(f"{DIRTY}/{name}")], settings, bad_share=1.0, **reading)
    ledger.check()
    assert ({reason: tally.items for reason, tally in ledger.dropped.items()}, ledger.used.items) == (dropped, written)
    assert (written > 0) == bool(list((tmp_path / "out").rglob("shard-*.bin")))


@pytest.mark.parametrize(("level", "left"), [("exact", 22), ("spaces", 21), ("letters", 20)])
def test_equal_documents_by_level(tmp_path: Path, level: Any, left: int) -> None:
    path = shared(f"{DIRTY}/exact_duplicates.jsonl")
    assert encode(tmp_path / "out", [path], EncodeSettings(duplicates=level)).used.items == left


def test_near_duplicates_are_those_of_the_key(tmp_path: Path) -> None:
    path, key = shared(f"{DIRTY}/near_duplicates.jsonl"), shared(f"{DIRTY}/near_duplicates_key.jsonl")
    pairs = [json.loads(line) for line in key.read_text(encoding="utf-8").split("\n") if line]
    texts = {record["id"]: record["text"] for record in map(json.loads, path.read_text(encoding="utf-8").rstrip("\n").split("\n"))}
    encode(tmp_path / "out", [path], EncodeSettings(duplicates="near", held_out_fraction=0.0))
    kept = set(texts_in(open_encoded_text(tmp_path / "out").train))
    both = {pair["id"]: texts[pair["id"]] in kept and texts[pair["edited_from"]] in kept for pair in pairs}
    assert not any(both[pair["id"]] for pair in pairs if pair["jaccard_5gram"] > 0.8)
    assert all(both[pair["id"]] for pair in pairs if pair["jaccard_5gram"] < 0.7)
