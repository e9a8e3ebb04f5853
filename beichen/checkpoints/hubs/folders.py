"""The one place where what a user names becomes a folder: a path stays itself, ``hf:org/name`` and ``ms:org/name`` are fetched.

Only what a model needs is fetched: its config, tokenizer, generation settings, licence, and its weights in one format. Without
network, or with ``BEICHEN_OFFLINE=1`` (or ``HF_HUB_OFFLINE=1``), what the cache holds serves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from beichen.checkpoints.hubs.client import HubClient, HubFile, HubName, UnreachableError
from beichen.checkpoints.hubs.hugging_face import HuggingFace
from beichen.checkpoints.hubs.modelscope import ModelScope
from beichen.checkpoints.published_files import CONFIG, SUFFIXES, stands_beside, weights_among
from beichen.errors import CheckpointError
from beichen.util.progress import SILENT, Reporter

CLIENTS: dict[str, Callable[[], HubClient]] = {"hf": HuggingFace, "ms": ModelScope}
OFFLINE = ("BEICHEN_OFFLINE", "HF_HUB_OFFLINE")

_NAME = re.compile(r"(?P<hub>hf|ms):(?P<rest>.*)", re.DOTALL)
_REST = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def find_folder(place: Path | str, *, weights: bool = True, reporter: Reporter = SILENT) -> Path:
    """The folder that ``place`` means; ``weights`` False fetches what describes the model only. Idempotent, and free for paths."""
    name = hub_name(place)
    if name is None:
        return Path(place)
    client = CLIENTS[name.hub]()
    if is_offline():
        return _cached(client, name, CheckpointError(f"{name}: not in the cache, and the network is switched off ({' or '.join(OFFLINE)})",
                                                     remedy="fetch it once with the network"))  # fmt: skip
    try:
        offered = client.listing(name)
    except UnreachableError as fault:
        folder = _cached(client, name, fault)
        reporter.warn(f"{fault.args[0]}; using what the cache holds")
        return folder
    files = needed(offered, name, weights=weights)
    here = client.cached(name)
    if here is not None and all((here / file.name).exists() for file in files):
        return client.fetch(name, files, lambda count: None)  # compares with the hub; nothing worth a bar
    with reporter.track(f"fetching {name}", total=sum(file.size for file in files), unit="B") as task:
        return client.fetch(name, files, task.advance)


def hub_name(place: Path | str) -> HubName | None:
    """The name of a model on a hub, or None for a path."""
    match = _NAME.fullmatch(os.fspath(place))
    if match is None:
        return None
    parts = _REST.fullmatch(match["rest"])
    if parts is None:
        raise CheckpointError(
            f"'{match[0]}' is not the name of a model: expected {match['hub']}:org/name or {match['hub']}:org/name@revision",
            remedy=f"for a folder of this name, write ./{match[0]}",
        )
    return HubName(match["hub"], parts["repository"], parts["revision"])


def shown_name(folder: Path) -> str:
    """What a person calls the model in a folder; in the caches of the hubs, folders are called by commits."""
    if folder.parent.name == "snapshots":
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")
    return folder.name


def is_offline() -> bool:
    """Whether the user has switched the network off."""
    return any(os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on") for name in OFFLINE)


def needed(offered: Sequence[HubFile], name: HubName, *, weights: bool) -> list[HubFile]:
    """What of a repository's files we read: weights in one format, config, and what stands beside."""
    top = {file.name: file for file in offered if "/" not in file.name}
    if CONFIG not in top:
        raise CheckpointError(f"{name}: no {CONFIG} among its {len(offered)} files, so it is not a model in published layout")
    chosen = weights_among(top) if weights else []
    if weights and not chosen:
        found = ", ".join(sorted(file.name for file in offered if file.name.endswith((*SUFFIXES, ".gguf")))[:4])
        raise CheckpointError(
            f"{name}: none of its files holds weights as we read them ({found or 'no weights at all'})",
            remedy="safetensors or .bin in published layout are read; look for another upload of the model",
        )
    beside = [file for file in top if file not in chosen and stands_beside(file) and not file.endswith(SUFFIXES)]
    return [top[file] for file in (CONFIG, *beside, *chosen)]


def _cached(client: HubClient, name: HubName, otherwise: CheckpointError) -> Path:
    folder = client.cached(name)
    if folder is None or not (folder / CONFIG).exists():
        raise otherwise
    return folder
