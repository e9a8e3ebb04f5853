"""The one exception tree.

Every class below is a *user fault*: its message names the file, line or key at fault, what was
expected, and the remedy. The library raises; only ``cli/`` prints the message and exits.

    BeichenError
    ├── SettingsError        a recipe, flag or setting
    ├── DataError            a corpus or dialogue file
    ├── TokenizerError       a tokenizer folder, or text that it cannot take
    ├── TemplateError        messages that a chat template cannot render
    ├── ConfigError          a model's config.json
    ├── CheckpointError      weights or training state on disk
    ├── StorageError         a folder that cannot be written, a full disk
    ├── LengthError          a prompt that is longer than may be read
    ├── DivergenceError      a run whose steps are faulty one after another
    ├── DeviceError          a device or dtype that this machine lacks
    ├── RequestError         what a client of the server asked for
    ├── OverloadError        more requests than may wait
    │   ├── QueueTimeError   a request that waited longer than it may
    │   └── ShutdownError    a request to a server that is ending
    ├── TimeLimitError       an answer that took longer than it may
    ├── ServerError          another server, as a client of it finds it
    └── MissingExtraError    an optional dependency that is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BeichenError(Exception):
    """A fault that the user can mend. ``remedy`` is printed on a line of its own; ``field``: which argument or setting it is about, for
    callers who know it by another name."""

    def __init__(self, message: str, *, remedy: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.remedy, self.field = remedy, field

    def __str__(self) -> str:
        message = str(self.args[0])
        return message if self.remedy is None else f"{message}\n  remedy: {self.remedy}"


class SettingsError(BeichenError):
    """A setting that is unknown, of the wrong type, or out of range."""


class DataError(BeichenError):
    """A corpus or dialogue file that cannot be read as what it should be."""


class TokenizerError(BeichenError):
    """A tokenizer folder that is missing, broken, or does not fit."""


class TemplateError(BeichenError):
    """Messages that the chat template of a family cannot render."""


class ConfigError(BeichenError):
    """A model configuration that no decoder can be built from."""


class CheckpointError(BeichenError):
    """Weights or training state that are missing, damaged, or of another shape."""


class StorageError(BeichenError):
    """A place on disk that cannot be written."""


class LengthError(BeichenError):
    """A prompt that has at least ``least`` tokens where at most ``most`` are read."""

    def __init__(self, *, least: int, most: int) -> None:
        super().__init__(f"the prompt has at least {least} tokens, and at most {most} are read")
        self.least, self.most = least, most


class DivergenceError(BeichenError):
    """A training run that faulty steps, one after another, have brought to an end."""


class DeviceError(BeichenError):
    """A device or number format that this machine does not offer."""


class RequestError(BeichenError):
    """A request that cannot be answered. ``param`` is the path of the field at fault: ``messages[2].content[0]``."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message if param is None else f"{param}: {message}", remedy=remedy)
        self.param, self.code = param, code


class OverloadError(BeichenError):
    """A request that cannot be taken now; a little later it may."""


class QueueTimeError(OverloadError):
    """A request that waited for its turn as long as it may."""


class ShutdownError(OverloadError):
    """A request that comes while the server ends; another server, or this one when it is back, may take it."""


class TimeLimitError(BeichenError):
    """An answer that took longer than it may."""


class ServerError(BeichenError):
    """Another server that cannot be reached, refuses, or does not answer as it should."""


class MissingExtraError(BeichenError):
    """An optional part that is not installed."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}', which is not installed", remedy=f"pip install 'beichen[{extra}]'")


_WORD = 3  # letters that a beginning must have to mean something


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)' for the closest known name, one of other case, or one that begins with it; '' when nothing is close."""
    by_case = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.6)
    close = close or [one for one in by_case if len(name) >= _WORD and one.startswith(name.lower())]
    close = [by_case[one] for one in close]
    return f" (did you mean '{close[0]}'?)" if close else ""
