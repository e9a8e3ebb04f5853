"""No tensor name is left out of an error: few stand as they are, many as ranges that stand for exactly them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from beichen.checkpoints.listing import FEW, listed


def spelled_out(line: str) -> set[str]:
    """All names that a line with ranges stands for."""
    braces = re.search(r"\{([\d,-]+)\}", line)
    if braces is None:
        return {line}
    names: set[str] = set()
    for part in braces[1].split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            names |= spelled_out(line[: braces.start()] + str(number) + line[braces.end() :])
    return names


names = st.one_of(
    st.builds("model.layers.{}.mlp.experts.{}.{}.weight".format, st.integers(0, 12), st.integers(0, 9), st.sampled_from(["up", "down"])),
    st.builds("h.{}.attention.{}".format, st.integers(0, 120), st.sampled_from(["weight", "bias"])),
    st.sampled_from(["lm_head.weight", "norm.weight"]),
)


@given(st.sets(names, max_size=150))
def test_the_lines_stand_for_the_names_and_for_no_other(given_names):
    lines = listed(sorted(given_names))
    assert set().union(*map(spelled_out, lines)) == given_names
    if len(given_names) <= FEW:
        assert lines == sorted(given_names)


def test_many_layers_are_one_line():
    many = [f"h.{layer}.experts.{expert}.down.bias" for layer in range(30) for expert in range(16) if layer != 7]
    assert listed([*many, "norm.weight"]) == ["h.{0-6,8-29}.experts.{0-15}.down.bias", "norm.weight"]
