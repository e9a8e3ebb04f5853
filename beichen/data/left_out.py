"""Why dialogues and preferences are left out where rows are too short for them, and what to do when nothing is left to train on."""

from __future__ import annotations

from beichen.data.account import Account

LONGER, NO_TARGET_FITS, ANSWER_CUT = "longer than a row", "no scored token fits into a row", "an answer is wholly cut"
OF_SHORT_ROWS = frozenset((LONGER, NO_TARGET_FITS, ANSWER_CUT))


def remedy_for_nothing(account: Account, *, sequence_length: int) -> str:
    """For an account of which nothing can be used: longer rows, where they would change that."""
    if account.dropped.keys() & OF_SHORT_ROWS:
        return f"raise data.sequence_length: rows of {sequence_length} are too short"
    return "see the reasons; leave out a source that holds nothing to learn"
