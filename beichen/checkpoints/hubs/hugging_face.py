"""The Hugging Face hub, through ``huggingface_hub``: its cache (``HF_HOME``), its endpoint (``HF_ENDPOINT``), its token (``HF_TOKEN``).

The library compares sizes; the SHA-256 that the hub states for large files is compared here.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beichen.checkpoints.hubs.client import HubFile, HubName, first_line, no_such_model, no_such_revision, unreachable
from beichen.checkpoints.hubs.verified import verify
from beichen.checkpoints.published_files import CONFIG
from beichen.errors import CheckpointError, MissingExtraError
from beichen.util.files import explain_storage_faults

LOGIN = "`hf auth login` or HF_TOKEN"


class HuggingFace:
    """``hf:org/name``."""

    def __init__(self) -> None:
        try:
            import huggingface_hub
        except ImportError as error:
            raise MissingExtraError("huggingface_hub", extra="hub", purpose="a model by name (hf:org/name)") from error
        self._library: Any = huggingface_hub

    def listing(self, name: HubName) -> list[HubFile]:
        """All files of the revision."""
        with self._explained(name):
            info = self._library.HfApi().model_info(name.repository, revision=name.revision, files_metadata=True)
        return [HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None) for file in info.siblings or ()]

    def cached(self, name: HubName) -> Path | None:
        """The folder of the revision in the cache; asks nobody."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            with self._explained(name, passing=(LocalEntryNotFoundError,)):
                folder = self._library.snapshot_download(
                    name.repository, revision=name.revision, allow_patterns=[CONFIG], local_files_only=True
                )
        except LocalEntryNotFoundError:
            return None
        return Path(folder)

    def fetch(self, name: HubName, files: Sequence[HubFile], advance: Callable[[int], None]) -> Path:
        """The folder, after these files are in it and have the digests that the hub states."""
        cache = Path(self._library.constants.HF_HUB_CACHE)
        with explain_storage_faults(cache), self._explained(name):
            folder = Path(
                self._library.snapshot_download(
                    name.repository, revision=name.revision, allow_patterns=[glob.escape(file.name) for file in files],
                    tqdm_class=_bar(self._library.utils.tqdm, advance),
                )
            )  # fmt: skip
        for file in files:
            path = folder / file.name
            if file.sha256 is not None and path.exists() and not verify(path, file.sha256):
                path.resolve().unlink()
                path.unlink(missing_ok=True)
                raise CheckpointError(
                    f"{name}: {file.name} came damaged: its SHA-256 is not the {file.sha256} that the hub states",
                    remedy="it was removed from the cache; run it again, and if it stays so, tell the model's publisher",
                )
        return folder

    @contextmanager
    def _explained(self, name: HubName, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        from huggingface_hub import errors

        try:
            yield
        except passing:
            raise
        except errors.GatedRepoError as error:
            raise CheckpointError(
                f"{name}: its publisher gives it only to those who accept its terms",
                remedy=f"accept them on the model's page, then {LOGIN}",
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise no_such_model(name, login=LOGIN) from error
        except errors.RevisionNotFoundError as error:
            raise no_such_revision(name) from error
        except errors.HFValidationError as error:
            raise CheckpointError(
                f"{name}: not a name of the hub ({first_line(error)})", remedy="expected hf:org/name[@revision]"
            ) from error
        except errors.HfHubHTTPError as error:
            if error.response.status_code in (401, 403):
                raise no_such_model(name, login=LOGIN) from error
            raise unreachable(name, first_line(error)) from error
        except OSError as error:
            if error.errno is not None:  # the disk's, not the network's
                raise
            raise unreachable(name, first_line(error)) from error
        except Exception as error:  # of whichever HTTP library it uses, which is its own affair
            if type(error).__module__.partition(".")[0].startswith(("httpx", "httpcore", "requests", "urllib3")):
                raise unreachable(name, first_line(error)) from error
            raise


def _bar(base: type[Any], advance: Callable[[int], None]) -> type[Any]:
    """A progress bar for the library that draws nothing and passes the bytes on."""

    class Bar(base):
        def __init__(self, *arguments: Any, **keys: Any) -> None:
            self._counts = keys.get("name") == "huggingface_hub.snapshot_download"  # the others count files, or the same bytes again
            super().__init__(*arguments, **(keys | {"disable": True}))

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts and n:
                advance(int(n))
            return None

    return Bar
