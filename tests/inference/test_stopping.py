"""Law: what a stop string leaves of a text does not depend on how the text is cut into pieces."""

from __future__ import annotations

import random

import pytest

from beichen.inference.stopping import StopStrings


def shown(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    finder = StopStrings(stops)
    text = "".join(finder.push(piece) for piece in pieces)
    return text + ("" if finder.found else finder.finish()), finder.found


@pytest.mark.parametrize("seed", range(300))
def test_cuts_do_not_matter(seed):
    rng = random.Random(seed)
    alphabet = "ab好\n"
    text = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 14)))
    stops = ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(0, 3))]
    whole = shown([text], stops)
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if ends:
        longest = max(len(stop) for stop in stops if text[: ends[0]].endswith(stop))
        assert whole == (text[: ends[0] - longest], True)
    else:
        assert whole == (text, False)
    for _ in range(20):
        cuts = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(0, 6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert shown(pieces, stops) == whole


def test_text_is_shown_as_soon_as_it_is_safe():
    finder = StopStrings(["END"])
    assert [finder.push(piece) for piece in ("abE", "Nd", "E", "ND more")] == ["ab", "ENd", "", ""]
    assert finder.found
