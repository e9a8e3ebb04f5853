"""Keyed numbers depend on their key alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from beichen.util.random import keyed_generator, keyed_seed, keyed_torch_generator

keys = st.tuples(st.integers(-(2**70), 2**70), st.text(max_size=5), st.integers(0, 2**70))


@given(keys, keys)
def test_seeds_are_equal_exactly_when_keys_are(one, other):
    assert (keyed_seed(*one) == keyed_seed(*other)) == (one == other)
    assert 0 <= keyed_seed(*one) < 2**63


@given(keys)
def test_numbers_do_not_depend_on_what_was_drawn_before(key):
    first = keyed_generator(*key).random(3)
    keyed_generator(key[0], key[1], key[2] + 1).random(100)
    np.random.default_rng(0).random()
    assert (keyed_generator(*key).random(3) == first).all()
    draws = [torch.randn(3, generator=keyed_torch_generator(*key)) for _ in range(2)]
    assert torch.equal(*draws)


def test_neighbouring_indices_are_unrelated():
    """Law: one number from each of many neighbouring keys is as uniform as many numbers from one."""
    values = np.array([keyed_generator(0, "shuffle", index).random() for index in range(2000)])
    assert abs(values.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.08


def test_the_numbers_stay_those_of_released_versions():
    """A change here would change every run that is resumed with a newer version."""
    assert keyed_seed(7, "shuffle", 3) == 5511607548861157716
    assert keyed_generator(7, "shuffle", 3).integers(0, 1000, 4).tolist() == [54, 100, 530, 434]
