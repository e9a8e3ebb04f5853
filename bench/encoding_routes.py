"""How others turn jsonl into ids on disk, each a command of its own: python -m bench.encoding_routes ROUTE FILE TOKENIZER OUT.

``datasets``: ``load_dataset`` and ``map(batched=True, num_proc=2)`` with ``tokenizers``, as its documentation has it. ``tiktoken``:
everything in memory, ``encode_ordinary_batch`` on all cores, one array. ``slow``: as TeleChat-52B publishes it: all lines and all ids in
memory, transformers' Python tokenizer over SentencePiece, text by text in as many processes as there are cores, ``torch.save``. Each puts
an end token behind every document and writes how many ids there are to ``OUT/tokens``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

PROCESSES = 2


def datasets_route(file: str, folder: str, out: str) -> int:
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}  # the processes share the cores
    from tokenizers import Tokenizer

    load_dataset = import_module("datasets").load_dataset  # a contender that whoever measures it installs; not declared
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    end = _end(folder)

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [[*one.ids, end] for one in tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)]}

    rows = load_dataset("json", data_files=file, split="train", cache_dir=out)
    encoded = rows.map(encode, batched=True, num_proc=PROCESSES, remove_columns=rows.column_names)
    return sum(len(chunk.flatten()) for chunk in encoded.data["ids"].chunks)


def tiktoken_route(file: str, folder: str, out: str) -> int:
    import numpy as np
    import tiktoken

    from beichen.text.interchange import tiktoken_arguments
    from beichen.text.tokenizer import read_tokenizer

    tokenizer = read_tokenizer(folder)
    encoder = tiktoken.Encoding("bench", **tiktoken_arguments(tokenizer))
    ids = [np.array([*one, tokenizer.end_id], np.uint16) for one in encoder.encode_ordinary_batch(_texts(file), num_threads=PROCESSES)]
    joined = np.concatenate(ids)
    np.save(f"{out}/ids.npy", joined)
    return len(joined)


def slow_route(file: str, folder: str, out: str) -> int:
    import torch

    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        ids = pool.starmap(_slowly, [(folder, text) for text in _texts(file)], chunksize=16)
    torch.save(ids, f"{out}/train_data.pt")
    return sum(map(len, ids))


def _slowly(folder: str, text: str) -> list[int]:
    tokenizer = _slow_tokenizer(folder)
    return [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]


@cache
def _slow_tokenizer(folder: str) -> Any:
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    return SentencePieceBackend(
        vocab_file=f"{folder}/tokenizer.model", unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )  # fmt: skip


def _texts(file: str) -> list[str]:
    with Path(file).open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line)["text"] for line in lines]


def _end(folder: str) -> int:
    from beichen.text.tokenizer import read_tokenizer

    return read_tokenizer(folder).end_id


ROUTES = {"datasets": datasets_route, "tiktoken": tiktoken_route, "slow": slow_route}

if __name__ == "__main__":
    route, *words = sys.argv[1:]
    Path(words[2]).mkdir(parents=True)
    tokens = ROUTES[route](*words)
    Path(words[2], "tokens").write_text(str(tokens), encoding="utf-8")
