"""One request while it is answered: its ids so far, its blocks, and what has been computed."""

from __future__ import annotations

from dataclasses import dataclass, field

from beichen.errors import SettingsError
from beichen.inference.api import FinishReason, Request, TokenLogprob
from beichen.inference.blocks import Content
from beichen.inference.rotations import RopeKey
from beichen.inference.sampling import SampledRow


@dataclass(eq=False, kw_only=True)
class Sequence:
    """Owned by the engine; whoever asked holds it to read ``ids`` and ``finish_reason``, and to cancel."""

    request: Request
    row: SampledRow
    rope: RopeKey
    root: Content
    tag: tuple[int, int, int]  # its place in the queue: the smaller the sooner
    ids: list[int] = field(default_factory=list)  # prompt and answer
    table: list[int] = field(default_factory=list)  # blocks, in the order of columns
    computed: int = 0  # columns whose keys and values are in the blocks
    content: Content = None  # of the last full block that is known
    filled: int = 0  # blocks that are known by their content
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)  # of the answer's ids, where the request asks
    fault: SettingsError | None = None  # why it could not go on as it was asked for
    shared: int = 0  # columns of the prompt that were found and not computed, at the last admission
    luck: float = 1.0  # share of guesses of its next ids that held lately
    length: int = field(init=False)  # the most that prompt and answer may reach together

    def __post_init__(self) -> None:
        self.ids = list(self.request.prompt_ids)
        self.content = self.root
        self.length = len(self.ids) + self.request.max_new_tokens

    def restart(self) -> None:
        """Its blocks are gone: everything so far is to be computed again."""
        self.table, self.computed, self.filled, self.content = [], 0, 0, self.root
