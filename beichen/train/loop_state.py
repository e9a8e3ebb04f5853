"""``LoopState``: how far a run is. With the tensors of its parts it is all that resuming needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from beichen.train.step import Gathered

REMEMBERED = 256  # losses, for guards with windows up to so many
AVERAGED = 16  # of them make the loss that is shown


@dataclass
class LoopState:
    """Counts over the whole run, stops and resumes included."""

    step: int = 0  # batches that were read, whether or not they moved the weights
    updates: int = 0  # steps that moved the weights
    tokens: int = 0  # positions that ran through the decoder, padding excluded
    targets: int = 0  # positions that were scored
    seconds: float = 0.0  # in steps, waiting for data included, evaluation and saving excluded
    recent: list[float] = field(default_factory=list)  # losses of the last updates
    faults_in_a_row: int = 0
    best_loss: float | None = None  # held-out, of the evaluations so far
    best_step: int = 0
    worse_in_a_row: int = 0  # evaluations since the best one
    left_out: list[int] = field(default_factory=list)  # steps whose batches a roll-back took out

    @property
    def loss(self) -> float:
        """Mean per target of the last steps, so that it does not jump as a single step's does."""
        last = self.recent[-AVERAGED:]
        return sum(last) / max(len(last), 1)

    def take(self, gathered: Gathered, seconds: float) -> None:
        """A step that moved the weights, and took so long."""
        self.step, self.updates, self.faults_in_a_row = self.step + 1, self.updates + 1, 0
        self.tokens, self.targets, self.seconds = self.tokens + gathered.tokens, self.targets + gathered.targets, self.seconds + seconds
        self.recent = [*self.recent[1 - REMEMBERED :], gathered.loss]

    def note_held_out(self, loss: float) -> None:
        """One more evaluation."""
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.best_step, self.worse_in_a_row = loss, self.step, 0
        else:
            self.worse_in_a_row += 1

    def skip(self, seconds: float, *, faulty: bool) -> None:
        """A step whose batches were read for nothing."""
        self.step, self.seconds = self.step + 1, self.seconds + seconds
        self.faults_in_a_row += faulty
