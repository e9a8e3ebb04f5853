"""The reference's log-probability of every answer, computed once before the first step and kept in the run's folder.

In: the decoder with the weights that the run begins from, all documents. Out: [documents] float32. The file is keyed by digests of the
documents, the tokenizer and the weights. Rule: a run that was stopped meanwhile goes on where it was, with the same numbers; one that has
taken steps never changes its reference unnoticed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from beichen.data.batch import Batch, collate
from beichen.data.preference_rows import document_row, pack_documents
from beichen.data.preference_tokens import PreferenceTokens
from beichen.errors import CheckpointError
from beichen.nn.decoder import Decoder
from beichen.objectives.preference import answer_log_probabilities
from beichen.util.files import write_atomically
from beichen.util.progress import Reporter

SAVE_SECONDS = 10.0
TENSOR = "log_probabilities"


def reference_log_probabilities(
    decoder: Decoder, tokens: PreferenceTokens, *, file: Path, tokenizer: str, sequence_length: int, rows: int, begun: bool,
    reporter: Reporter,
) -> Tensor:  # fmt: skip
    """Those of all documents, from ``file`` as far as it knows them; ``begun``: the run has taken steps with them.

    ``tokenizer``: its fingerprint. ``rows`` run at once. Raises CheckpointError where a run that was begun had another reference.
    """
    key = {"documents": tokens.fingerprint, "tokenizer": tokenizer, "model": digest_of(decoder)}
    known = _known(file, key, len(tokens.positions), begun)
    last_save = time.monotonic()
    groups = list(_groups(tokens, np.arange(len(known)), sequence_length, rows))
    missing = [group for group in groups if np.isnan(known[np.concatenate(group)]).any()]
    if missing:
        with reporter.track("reference", total=len(groups), unit="batches") as task:
            task.set(len(groups) - len(missing))
            for group in missing:
                known[np.concatenate(group)] = _score(decoder, tokens, group, sequence_length, rows)
                task.advance()
                if time.monotonic() - last_save > SAVE_SECONDS:
                    write_atomically(file, save({TENSOR: known}, metadata=key))
                    last_save = time.monotonic()
        write_atomically(file, save({TENSOR: known}, metadata=key))
    return torch.from_numpy(known)


def score_documents(
    decoder: Decoder, tokens: PreferenceTokens, documents: np.ndarray, *, sequence_length: int, rows: int, label: str, reporter: Reporter
) -> np.ndarray:  # fmt: skip
    """Log-probabilities of some documents' answers under the decoder as it is. [documents] float32"""
    found = np.full(len(tokens.positions), np.nan, np.float32)
    groups = list(_groups(tokens, documents, sequence_length, rows))
    with reporter.track(label, total=len(groups), unit="batches") as task:
        for group in groups:
            found[np.concatenate(group)] = _score(decoder, tokens, group, sequence_length, rows)
            task.advance()
    return found[documents]


def digest_of(decoder: Decoder) -> str:
    """Hexadecimal SHA-256 of all weights, by name."""
    digest = hashlib.sha256()
    for name, weight in sorted(decoder.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _groups(tokens: PreferenceTokens, documents: np.ndarray, sequence_length: int, rows: int) -> Iterator[Sequence[np.ndarray]]:
    """The rows of each batch, as numbers of documents; they follow from the documents alone."""
    packed = pack_documents(tokens, documents, sequence_length=sequence_length)
    return (packed[begin : begin + rows] for begin in range(0, len(packed), rows))


@torch.no_grad()
def _score(decoder: Decoder, tokens: PreferenceTokens, group: Sequence[np.ndarray], sequence_length: int, rows: int) -> np.ndarray:
    training = decoder.training
    decoder.eval()
    batch: Batch = collate([document_row(tokens, row, sequence_length=sequence_length) for row in group])
    sums, _ = answer_log_probabilities(decoder, batch.to(next(decoder.parameters()).device))
    decoder.train(training)
    return sums.cpu().numpy()


def _known(file: Path, key: Mapping[str, str], count: int, begun: bool) -> np.ndarray:
    """What the file knows of this reference; not a number where it knows nothing."""
    nothing = np.full(count, np.nan, np.float32)
    if not file.exists():
        if begun:
            raise CheckpointError(f"{file} is missing, which the run has been trained with", remedy="start the run anew in another folder")
        return nothing
    try:
        with safe_open(file, framework="np") as stored:
            found, values = dict(stored.metadata() or {}), np.array(stored.get_tensor(TENSOR))
    except SafetensorError as fault:
        raise CheckpointError(f"{file}: cannot be read ({fault})", remedy="remove it: it is then computed anew") from fault
    changed = [name for name in key if found.get(name) != key[name]]
    if not changed and len(values) == count:
        return values
    if begun:
        raise CheckpointError(
            f"{file}: the run was begun with another reference ({', '.join(changed)} changed)",
            remedy="give the model, tokenizer and data of that run, or start anew in another folder",
        )
    return nothing
