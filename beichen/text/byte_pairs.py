"""Merges for vocabularies that state only which pieces exist and which of two is made first.

SentencePiece and tiktoken files rank whole pieces: two neighbours may be joined whenever the result is a piece, the best result
first. ``tokenizers`` ranks pairs. Listing every pair that makes a piece, in the order of the pieces, says the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


def merges_of(ranked: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Every pair of ``known`` pieces that makes one of ``ranked``, best first. Pairs of one result: the longer left part first."""
    return [
        (piece[:cut], piece[cut:])
        for piece in ranked
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in known and piece[cut:] in known
    ]
