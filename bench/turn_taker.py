"""The side of a contender in ``turns``: it says a line of JSON when a step is done, then waits for the word to go on.

Nothing but the standard library: a peer's environment has no Beichen. What else is printed goes to the error stream.
"""

from __future__ import annotations

import json
import os
import sys


class TurnTaker:
    """Takes over the process's standard output, which from now on holds the protocol alone."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def done(self, **said: object) -> None:
        """Say what was done; come back when it is this contender's turn again. Without one, the process ends here: nothing is saved."""
        self._out.write(json.dumps(said) + "\n")
        self._out.flush()
        if sys.stdin.readline().strip() != "step":
            os._exit(0)
