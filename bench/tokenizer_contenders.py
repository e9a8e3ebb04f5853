"""One tokenizer library doing one job in a process of its own, so that its time and memory can be measured from outside.

``python -m bench.tokenizer_contenders train|encode NAME FILE ...``. Each library as its documentation says it is fastest; what was set
stands in ``TRAIN_SETTINGS`` and ``ENCODE_SETTINGS``. Training reads JSON lines as a stream and writes the vocabulary; encoding prints the
seconds and the numbers of bytes and tokens, loading and a warm-up on other text not counted. The packages are imported where they are used.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

PATTERN = "gpt2"
CORES = len(os.sched_getaffinity(0))
WARM_UP = 1_000_000  # bytes, encoded before the clock starts
MERGES_FILE = "merges.json"  # the pieces that every merge made, in order

TRAIN_SETTINGS = {
    "tokenizers": f"BpeTrainer, min_frequency 0, byte alphabet, its own {PATTERN} cuts, TOKENIZERS_PARALLELISM on, from an iterator",
    "rustbpe": f"train_from_iterator, its own buffer size, {PATTERN} pattern, rayon on all cores",
    "sentencepiece": "BPE, byte fallback, identity normalization, character coverage 0.9995, all cores, every line, its own cuts",
}
ENCODE_SETTINGS = {
    "ours": "encode_batch",
    "tiktoken": "the same vocabulary, encode_ordinary_batch",
    "tokenizers": "the same file, encode_batch_fast, TOKENIZERS_PARALLELISM on",
}


def read_texts(file: str) -> Iterator[str]:
    """The texts of a file of JSON lines, one at a time."""
    with Path(file).open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def _train_tokenizers(texts: Iterator[str], size: int, out: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=0, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    (out / MERGES_FILE).write_text(json.dumps(merges), encoding="utf-8")


def _train_rustbpe(texts: Iterator[str], size: int, out: Path) -> None:
    from beichen.text.pre_tokenization import split_pattern

    rustbpe: Any = import_module("rustbpe")  # it has no types
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(texts, size, pattern=split_pattern(PATTERN))
    ranks = [base64.b64encode(bytes(piece)).decode() for piece, _ in tokenizer.get_mergeable_ranks()]
    (out / "ranks.json").write_text(json.dumps(ranks), encoding="utf-8")


def _train_sentencepiece(texts: Iterator[str], size: int, out: Path) -> None:
    import sentencepiece

    lines = (line for text in texts for line in text.split("\n") if line)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_prefix=str(out / "pieces"), vocab_size=size, model_type="bpe", byte_fallback=True,
        character_coverage=0.9995, normalization_rule_name="identity", num_threads=CORES, max_sentence_length=1 << 20, minloglevel=2,
    )  # fmt: skip


def _encode_ours(folder: Path) -> Callable[[Sequence[str]], list[list[int]]]:
    from beichen.text.tokenizer import read_tokenizer

    return read_tokenizer(folder).encode_batch


def _encode_tiktoken(folder: Path) -> Callable[[Sequence[str]], list[list[int]]]:
    import tiktoken

    from beichen.text.interchange import tiktoken_arguments
    from beichen.text.tokenizer import read_tokenizer

    encoding = tiktoken.Encoding("ours", **tiktoken_arguments(read_tokenizer(folder)))
    return lambda texts: encoding.encode_ordinary_batch(list(texts), num_threads=CORES)


def _encode_tokenizers(folder: Path) -> Callable[[Sequence[str]], list[list[int]]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


_TRAIN = {"tokenizers": _train_tokenizers, "rustbpe": _train_rustbpe, "sentencepiece": _train_sentencepiece}
_ENCODE = {"ours": _encode_ours, "tiktoken": _encode_tiktoken, "tokenizers": _encode_tokenizers}


def _encode(name: str, folder: Path, file: str, size: int) -> dict[str, Any]:
    encode = _ENCODE[name](folder)
    texts = _of_size(read_texts(file), WARM_UP + size)
    warm = _prefix(texts, WARM_UP)
    encode(texts[:warm])
    texts = texts[warm:]
    begin = time.perf_counter()
    ids = encode(texts)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "bytes": sum(len(text.encode()) for text in texts), "tokens": sum(map(len, ids)), "digest": _digest(ids)}


def _of_size(texts: Iterator[str], size: int) -> list[str]:
    found: list[str] = []
    for text in texts:
        if size <= 0:
            break
        found.append(text)
        size -= len(text.encode())
    return found


def _prefix(texts: Sequence[str], size: int) -> int:
    return len(_of_size(iter(texts), size))


def _digest(ids: Sequence[Sequence[int]]) -> str:
    import hashlib

    import numpy as np

    digest = hashlib.sha256()
    for row in ids:
        digest.update(np.array(row, dtype=np.uint32).tobytes())
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> None:
    """``train NAME FILE IDS OUT`` or ``encode NAME FILE BYTES FOLDER``."""
    job, name, file, number, folder = islice(arguments, 5)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    if job == "train":
        _TRAIN[name](read_texts(file), int(number), Path(folder))
    else:
        print(json.dumps(_encode(name, Path(folder), file, int(number))))


if __name__ == "__main__":
    main(sys.argv[1:])
