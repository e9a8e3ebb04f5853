"""ModelScope, through its client ``modelscope_hub``: its cache (``MODELSCOPE_CACHE``), endpoint (``MODELSCOPE_ENDPOINT``), token.

The library resumes at the byte where it stopped and compares the SHA-256 of what came.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from beichen.checkpoints.hubs.client import HubFile, HubName, first_line, no_such_model, no_such_revision, unreachable
from beichen.checkpoints.hubs.verified import is_verified, note_verified
from beichen.errors import CheckpointError, MissingExtraError
from beichen.util.files import explain_storage_faults

LOGIN = "`modelscope login` or MODELSCOPE_API_TOKEN"


class ModelScope:
    """``ms:org/name``."""

    def __init__(self) -> None:
        try:
            from modelscope_hub import HubApi
            from modelscope_hub.config import HubConfig
        except ImportError as error:
            raise MissingExtraError("modelscope_hub", extra="hub", purpose="a model by name (ms:org/name)") from error
        _keep_quiet()
        self._config = HubConfig()  # reads the environment now
        self._api: Any = HubApi(config=self._config)

    def listing(self, name: HubName) -> list[HubFile]:
        """All files of the revision."""
        with self._explained(name):
            offered = self._api.list_repo_files(name.repository, "model", revision=name.revision, recursive=False)
        return [HubFile(file.path, file.size, file.sha256 or None) for file in offered if not file.is_dir]

    def cached(self, name: HubName) -> Path | None:
        """The folder of the revision in the cache; asks nobody."""
        from modelscope_hub.errors import CacheNotFound

        try:
            return Path(self._api.download_repo(name.repository, "model", revision=name.revision, local_files_only=True))
        except CacheNotFound:
            return None

    def fetch(self, name: HubName, files: Sequence[HubFile], advance: Callable[[int], None]) -> Path:
        """The folder, after these files are in it; those that were compared before are not read again for that."""
        here = self.cached(name)
        known = {file.name for file in files if here and file.sha256 and is_verified(here / file.name, file.sha256)}
        wanted = [{"Path": file.name, "Size": file.size, "Sha256": None if file.name in known else file.sha256} for file in files]
        with explain_storage_faults(self._config.cache_dir), self._explained(name):
            folder = Path(
                self._api.download_repo(
                    name.repository, "model", revision=name.revision, file_list=wanted, progress_callbacks=[_callback(advance)]
                )
            )
        for file in files:
            if file.sha256 and file.name not in known:
                note_verified(folder / file.name, file.sha256)
        return folder

    @contextmanager
    def _explained(self, name: HubName) -> Iterator[None]:
        from modelscope_hub import errors

        try:
            yield
        except errors.FileDownloadError as error:
            damaged = [file for file, fault in error.failed_files.items() if isinstance(fault, errors.FileIntegrityError)]
            if damaged:
                raise CheckpointError(
                    f"{name}: {', '.join(damaged)} came damaged: the SHA-256 or size is not what the hub states",
                    remedy="it was not kept; run it again, and if it stays so, tell the model's publisher",
                ) from error
            for fault in error.failed_files.values():
                if isinstance(fault, OSError) and fault.errno is not None:  # the disk's, not the network's
                    raise fault from error
            raise unreachable(name, first_line(next(iter(error.failed_files.values())))) from error
        except (errors.NotExistError, errors.AuthenticationError, errors.PermissionDeniedError) as error:
            if name.revision and "revision" in str(error).lower():
                raise no_such_revision(name) from error
            raise no_such_model(name, login=LOGIN) from error
        except errors.InvalidParameter as error:
            raise CheckpointError(
                f"{name}: the hub does not take this name ({first_line(error)})", remedy="expected ms:org/name[@revision]"
            ) from error
        except errors.HubError as error:
            raise unreachable(name, first_line(error)) from error


def _keep_quiet() -> None:
    """The library logs each step and draws a bar per file on any stream; our reporter says what there is to say."""
    logging.getLogger("modelscope_hub").setLevel(logging.ERROR)
    engine: Any = sys.modules.get("modelscope_hub._download")
    if hasattr(engine, "tqdm") and not isinstance(engine.tqdm, partial):
        engine.tqdm = partial(engine.tqdm, disable=True)


def _callback(advance: Callable[[int], None]) -> type[Any]:
    """What the library tells of each file, passed on."""
    from modelscope_hub import ProgressCallback

    class Callback(ProgressCallback):
        def update(self, size: int) -> None:
            advance(size)

    return Callback
