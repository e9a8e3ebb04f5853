"""``encode_corpus``: text files to two token stores, one to train on and one held out.

In: paths and a tokenizer. Out: ``EncodedCorpus``. Both stores stand in one folder that appears whole or not at all; it is used again as
it is when neither the files nor the tokenizer nor the settings have changed. Rule: every document read is in exactly one
store or in the account of what was dropped; memory holds one chunk of documents.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.data.account import Account, OnBad
from beichen.data.block_encoding import Encoder
from beichen.data.encoded_text import HELD_OUT, TRAIN
from beichen.data.files import expand_paths
from beichen.data.readers import TextUnit
from beichen.data.sources import Document, read_documents
from beichen.data.split import split_position
from beichen.data.store import METADATA_FILE, StoreWriter, TokenStore, read_metadata
from beichen.errors import DataError, StorageError
from beichen.util.files import write_folder_atomically
from beichen.util.progress import SILENT, Reporter

CHUNK_CHARACTERS = 2 << 20  # of text that is encoded at once
CHUNK_DOCUMENTS = 4096


@dataclass(frozen=True)
class EncodedCorpus:
    """``train`` and ``held_out`` (``None`` when nothing was to be held out); ``reused``: the folder was still current."""

    train: TokenStore
    held_out: TokenStore | None
    reused: bool

    @property
    def account(self) -> Account:
        return self.train.account


def encode_corpus(
    paths: Iterable[str | Path],
    tokenizer: Encoder,
    directory: str | Path,
    *,
    held_out_fraction: float = 0.0,
    text_key: str | None = None,
    text_unit: TextUnit = "pieces",
    on_bad: OnBad = "raise",
    reporter: Reporter = SILENT,
) -> EncodedCorpus:
    """Encodes all documents of the files; see ``encode_documents`` for the split."""
    files = expand_paths(paths)
    sizes = [file.stat() for file in files]
    inputs = {
        "files": [[str(file.resolve()), status.st_size, status.st_mtime_ns] for file, status in zip(files, sizes, strict=True)],
        "text_key": text_key,
        "text_unit": text_unit,
        "on_bad": on_bad,
    }
    current = _current(Path(directory), tokenizer, {**inputs, "held_out_fraction": held_out_fraction}, reporter)
    if current is not None:
        reporter.line(f"{directory}: the encoded text is current and used again")
        return current
    read = 0

    def consumed(size: int) -> None:
        nonlocal read
        read += size

    with reporter.track("encoding text", total=float(sum(status.st_size for status in sizes)), unit="B") as task:
        account = Account()
        documents = read_documents(
            files, text_key=text_key, text_unit=text_unit, on_bad=on_bad, account=account, reporter=reporter, consumed=consumed
        )
        return encode_documents(
            documents, tokenizer, directory, held_out_fraction=held_out_fraction, account=account, inputs=inputs, reporter=reporter,
            encoded=lambda: task.set(read),
        )  # fmt: skip


def encode_documents(
    documents: Iterable[Document],
    tokenizer: Encoder,
    directory: str | Path,
    *,
    held_out_fraction: float = 0.0,
    account: Account | None = None,
    inputs: Mapping[str, Any] | None = None,
    reporter: Reporter = SILENT,
    encoded: Callable[[], object] = lambda: None,
) -> EncodedCorpus:
    """Encodes documents into ``directory/train`` and, where a fraction is to be held out, ``directory/held_out``.

    Held out is a document whose ``split_position`` is under the fraction. Few documents may have none such: then those with the
    smallest position (the same text, if it occurs more than once) are held out, and the reporter says so.
    ``account`` is the one that the reader of ``documents`` writes to; without it documents are counted here. ``encoded`` is called as
    often as all that was read has been encoded, and at the end.
    """
    target = Path(directory)
    if target.exists() and any(target.iterdir()) and not (target / TRAIN / METADATA_FILE).is_file():
        raise StorageError(f"{target}: holds other files than encoded text", remedy="choose a new folder, or empty this one")
    if account is None:
        account = Account()
        documents = _counted(documents, account)
    stated = {**(inputs or {}), "held_out_fraction": held_out_fraction}
    with write_folder_atomically(target, obsolete=lambda name: name in (TRAIN, HELD_OUT)) as folder:
        names = (TRAIN, HELD_OUT) if held_out_fraction > 0 else (TRAIN,)
        writers = {name: _writer(folder / name, tokenizer) for name in names}
        nearest = _Nearest()
        for chunk in _chunks(documents):
            parts: dict[str, list[Document]] = {name: [] for name in names}
            for document in chunk:
                position = split_position(document.text)
                parts[HELD_OUT if position < held_out_fraction else TRAIN].append(document)
                nearest.see(position, writers[TRAIN].num_documents + len(parts[TRAIN]) - 1, document.source)
            for name, part in parts.items():
                sizes = [document.num_bytes for document in part]
                tokens = writers[name].add(tokenizer.encode_batch([document.text for document in part]), sizes)
                account.used.add(sum(sizes), len(part), tokens)
                account.read.tokens += tokens
            encoded()
        encoded()  # what stood behind the last document, too
        account.check()
        if held_out_fraction > 0:
            train, held_out = writers[TRAIN].num_documents, writers[HELD_OUT].num_documents
            if not train or (not held_out and train == len(nearest.documents)):
                raise _too_few(nearest.source, train + held_out, held_out_fraction)
            if not held_out:
                reporter.warn(f"no document falls into the held-out {held_out_fraction:.1%}: the nearest one is held out instead")
                writers = _hold_out(folder, writers[TRAIN], nearest.documents, tokenizer, account)
        for writer in writers.values():
            writer.finish(account=account, inputs=stated)
    corpus = _open(target, tokenizer, reused=False)
    reporter.line(account.as_text())
    return corpus


def check_divisible(documents: Iterable[Document], held_out_fraction: float) -> None:
    """Refuses, before any work is done with them, documents that are one and the same text; reads no further than to the second text."""
    first, count = None, 0
    for document in documents:
        first = first or document
        if document.text != first.text:
            return
        count += 1
    if first is not None and held_out_fraction > 0:
        raise _too_few(first.source, count, held_out_fraction)


def _too_few(source: str, documents: int, held_out_fraction: float) -> DataError:
    return DataError(
        f"{source}: {documents} document{'s' * (documents != 1)} in all, too few to hold out {held_out_fraction:.0%} and train on the rest",
        remedy="cut the text into more documents, or hold out nothing (held_out_fraction: 0)",
    )


@dataclass
class _Nearest:
    """The training documents whose split position is smallest, should none be small enough."""

    position: float = 1.0
    source: str = ""  # of any of them

    def __post_init__(self) -> None:
        self.documents: list[int] = []

    def see(self, position: float, document: int, source: str) -> None:
        if position < self.position:
            self.position, self.source, self.documents = position, source, []
        if position == self.position:
            self.documents.append(document)


def _hold_out(folder: Path, written: StoreWriter, held_out: list[int], tokenizer: Encoder, account: Account) -> dict[str, StoreWriter]:
    """Divides what was written for training by document numbers; for small corpora only."""
    written.finish(account=account, inputs={})
    whole_folder = (folder / TRAIN).rename(folder / "whole")
    shutil.rmtree(folder / HELD_OUT)
    whole = TokenStore(whole_folder, verify=False)
    writers = {name: _writer(folder / name, tokenizer) for name in (TRAIN, HELD_OUT)}
    for index in range(whole.num_documents):
        name = HELD_OUT if index in held_out else TRAIN
        writers[name].add([whole.document(index)[:-1].tolist()], [int(whole.document_bytes[index])])
    shutil.rmtree(whole_folder)
    return writers


def _writer(folder: Path, tokenizer: Encoder) -> StoreWriter:
    folder.mkdir()
    return StoreWriter(folder, vocab_size=tokenizer.vocab_size, end_id=tokenizer.end_id, tokenizer_fingerprint=tokenizer.fingerprint)


def _counted(documents: Iterable[Document], account: Account) -> Iterator[Document]:
    for document in documents:
        account.read.add(document.num_bytes)
        yield document


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text)
        if size >= CHUNK_CHARACTERS or len(chunk) == CHUNK_DOCUMENTS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _current(directory: Path, tokenizer: Encoder, inputs: Mapping[str, Any], reporter: Reporter) -> EncodedCorpus | None:
    """The stores of an earlier pass over the same files by the same tokenizer, if they are whole."""
    if not (directory / TRAIN / METADATA_FILE).is_file():
        return None
    try:
        metadata = read_metadata(directory / TRAIN)
        same = (metadata["inputs"], metadata["tokenizer"], metadata["end_id"]) == (dict(inputs), tokenizer.fingerprint, tokenizer.end_id)
        return _open(directory, tokenizer, reused=True) if same else None
    except DataError as fault:
        reporter.warn(f"{fault.args[0]}; encoded anew")
        return None


def _open(directory: Path, tokenizer: Encoder, *, reused: bool) -> EncodedCorpus:
    train = TokenStore(directory / TRAIN, tokenizer_fingerprint=tokenizer.fingerprint)
    wanted = train.metadata["inputs"]["held_out_fraction"] > 0
    held_out = TokenStore(directory / HELD_OUT, tokenizer_fingerprint=tokenizer.fingerprint) if wanted else None
    return EncodedCorpus(train, held_out, reused)
