"""Whether a folder of encoded text is still what was written: every shard against its header, ``store.json`` and the ledger.

In: what ``beichen data encode`` wrote, or one part of it. Out: what was compared, and every fault, not the first alone, each naming its
file. Rule: ``quick`` reads headers and sizes only, so it costs the same for any amount of text; else all bytes are read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from beichen.data.account import Account
from beichen.data.encoded_text import HELD_OUT, TRAIN, open_parts
from beichen.data.shards import REMEDY, check_tokenizer
from beichen.data.store import open_shard, read_metadata
from beichen.errors import DataError
from beichen.util.progress import SILENT, Reporter


@dataclass
class EncodedVerification:
    """What was compared, and what is wrong; each fault a sentence that names its file."""

    folder: Path
    shards: int = 0
    documents: int = 0
    bytes_read: int = 0
    faults: list[str] = field(default_factory=list)


def verify_encoded_text(folder: str | Path, *, quick: bool = False, reporter: Reporter = SILENT) -> EncodedVerification:
    """Compare all that can be compared. A folder that is none, or misses a part, is a ``DataError``."""
    found = EncodedVerification(Path(folder))
    for part, description in open_parts(Path(folder)):
        documents, faults = found.documents, len(found.faults)
        lanes = (TRAIN, HELD_OUT) if description["settings"]["held_out_fraction"] else (TRAIN,)
        stores = [part / source["name"] / lane for source in description["sources"] for lane in lanes]
        for store in stores:
            for fault in _faults_of_store(store, description["tokenizer"], quick, found, reporter):
                found.faults.append(fault)
        written = Account.from_dict(description["ledger"]).used.items
        if len(found.faults) == faults and found.documents - documents != written:
            found.faults.append(f"{part}: its shards hold {found.documents - documents:,} documents, its ledger says {written:,}")
    return found


def require_sound(folder: Path) -> None:
    """Refuses a folder of which a header or a size is wrong."""
    if faults := verify_encoded_text(folder, quick=True).faults:
        raise DataError("\n".join(faults), remedy=REMEDY)


def _faults_of_store(store: Path, tokenizer: str, quick: bool, found: EncodedVerification, reporter: Reporter) -> Iterator[str]:
    try:
        metadata = read_metadata(store)
        check_tokenizer(store, metadata["tokenizer"], tokenizer)
    except DataError as fault:
        yield fault.args[0]
        return
    with reporter.track(f"checking {store.parent.name}/{store.name}", total=float(len(metadata["shards"])), unit="shards") as task:
        for name in metadata["shards"]:
            found.shards += 1
            try:
                shard = open_shard(store, metadata, name, verify=not quick)
            except DataError as fault:
                yield fault.args[0]
            else:
                found.documents += shard.num_documents
                found.bytes_read += 0 if quick else shard.path.stat().st_size
            task.advance(1)
